"""What an augmentation is, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

Boxes = Tensor | Sequence[Tensor]  # one a sample, stacked where they are of one size


class Augmentation(Protocol):
    """Changes patches; a class that names it as its base need not repeat what has a default here."""

    def __call__(
        self,
        image: Boxes,
        reference: Boxes,
        samples: Sequence[int],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch, on the device that it lies on.

        Args:
            image: One (channel, *box) a sample, normalised; the box is what `extent` asks for.
            reference: One (1, *box) a sample, uint8 class indices; 255 where nobody annotated.
            samples: The batch's sample numbers, unique over the whole training; what is drawn follows from them.
            spacing: Voxel size in mm, one per spatial axis.
            patch_size: Voxels of the result, one per spatial axis.

        Returns:
            New tensors (batch, channel, *patch) and (batch, 1, *patch).
        """
        ...

    def extent(self, sample: int, patch_size: Sequence[int], spacing: Sequence[float]) -> Sequence[int]:
        """Voxels of the box about a patch that a sample takes its values from; the patch itself by default.

        Args:
            sample: The sample's number.
            patch_size: Voxels, one per spatial axis.
            spacing: Voxel size in mm, one per spatial axis.

        Returns:
            The patch's size, or larger by an even number along each axis.
        """
        return tuple(patch_size)

    def words(self, sample: int, patch_size: Sequence[int], channels: int) -> list[str] | None:
        """What happens to a sample, for a caption; by default it is not told.

        Args:
            sample: The sample's number.
            patch_size: Voxels, one per spatial axis.
            channels: Image channels.

        Returns:
            One phrase a change, none where nothing happens; None where that cannot be told.
        """
        return None


def complete(made: Any) -> Augmentation | None:
    """An augmentation with all that belongs to one, of whatever a configuration names.

    Args:
        made: An `Augmentation`; or any function or object that can be called like one, and may have the rest; or None.

    Returns:
        The same one, or one about it that has the rest as by default.
    """
    has_all = made is None or all(hasattr(made, name) for name in ("extent", "words"))
    return made if has_all else _Completed(made)


class _Completed(nn.Module):
    """A function of the user's own as an augmentation; a module, so that what it may hold of one goes to its device."""

    def __init__(self, made: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.made = made

    def forward(self, *batch: Any) -> tuple[Tensor, Tensor]:
        """Call it."""
        return self.made(*batch)

    def extent(self, sample: int, patch_size: Sequence[int], spacing: Sequence[float]) -> Sequence[int]:
        """What it says, or the patch."""
        own = getattr(self.made, "extent", None)
        return tuple(patch_size) if own is None else own(sample, patch_size, spacing)

    def words(self, sample: int, patch_size: Sequence[int], channels: int) -> list[str] | None:
        """What it says, if anything."""
        own = getattr(self.made, "words", None)
        return None if own is None else own(sample, patch_size, channels)
