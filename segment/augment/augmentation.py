"""The interface of an augmentation, built-in or custom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

Boxes = Tensor | Sequence[Tensor]  # one per sample, stacked where they have the same size


class Augmentation(Protocol):
    """Changes patches; subclasses inherit the defaults of `extent` and `words`."""

    def __call__(
        self,
        image: Boxes,
        reference: Boxes,
        samples: Sequence[int],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch on its device.

        Args:
            image: One (channel, *box) per sample, normalised; `extent` gives the size of the box.
            reference: One (1, *box) per sample, uint8 class indices; 255 where not annotated. In the second stage of a
                cascade (2, *box): the mask of the first stage follows and moves along.
            samples: The batch's sample numbers, unique over the whole training; they determine what is drawn.
            spacing: Voxel size in mm, one per spatial axis.
            patch_size: Voxels of the result, one per spatial axis.

        Returns:
            New tensors (batch, channel, *patch) and (batch, 1 or 2, *patch).
        """
        ...

    def extent(self, sample: int, patch_size: Sequence[int], spacing: Sequence[float]) -> Sequence[int]:
        """Size in voxels of the box around a patch that a sample is computed from; by default the patch itself.

        Args:
            sample: The sample's number.
            patch_size: Voxels, one per spatial axis.
            spacing: Voxel size in mm, one per spatial axis.

        Returns:
            The patch's size, or larger by an even number along each axis.
        """
        return tuple(patch_size)

    def words(self, sample: int, patch_size: Sequence[int], channels: int) -> list[str] | None:
        """Describe what happens to a sample, for a caption; None by default.

        Args:
            sample: The sample's number.
            patch_size: Voxels, one per spatial axis.
            channels: Image channels.

        Returns:
            One phrase per change, empty where nothing happens; None where unknown.
        """
        return None


def complete(made: Any) -> Augmentation | None:
    """Turn what a configuration names into an augmentation with all methods.

    Args:
        made: An `Augmentation`; or any callable with its signature, which may have the other methods; or None.

    Returns:
        The argument itself, or a wrapper that adds the missing methods.
    """
    has_all = made is None or all(hasattr(made, name) for name in ("extent", "words"))
    return made if has_all else _WithDefaults(made)


class _WithDefaults(nn.Module):
    """Wraps a custom callable as an augmentation; a module, so that modules inside it move to its device."""

    def __init__(self, made: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.made = made

    def forward(self, *batch: Any) -> tuple[Tensor, Tensor]:
        """Call it."""
        return self.made(*batch)

    def extent(self, sample: int, patch_size: Sequence[int], spacing: Sequence[float]) -> Sequence[int]:
        """Return the callable's own extent, if any, or the patch size."""
        own = getattr(self.made, "extent", None)
        return tuple(patch_size) if own is None else own(sample, patch_size, spacing)

    def words(self, sample: int, patch_size: Sequence[int], channels: int) -> list[str] | None:
        """Return the callable's own words, if any."""
        own = getattr(self.made, "words", None)
        return None if own is None else own(sample, patch_size, channels)
