"""Learning without masks: SimCLR, BYOL, and restoration (masked autoencoding, Models Genesis)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segment.augment.augmentation import Augmentation
from segment.augment.corruption import Corruption, MaskedBlocks
from segment.errors import UserError
from segment.losses.self_supervised import alignment, byol_loss, nt_xent, spread, uniformity
from segment.networks.padding import memory_format, pad_to_divisor
from segment.networks.projection import Bootstrapped, Projected, pooled
from segment.networks.sparse import TOKENS, SparseEncoding
from segment.networks.transfer import HEADS
from segment.preprocessing.plan import Plan
from segment.training.modules.base import TrainingModule
from segment.training.parameters import ParameterRules

COLLAPSED = 0.1
"""Spread of embeddings (see `segment.losses.self_supervised.spread`) below which they count as collapsed."""
SPREAD = "train/spread"


class Pretraining(TrainingModule):
    """Trains a network on augmented views of patches; subclasses have the loss.

    Attributes:
        views: Views of each patch in a batch, which follow each other.
        overlap: Least overlap of the crops of a patch's views along each axis, 0 to 1.
    """

    views = 1
    overlap = 1.0

    def represent(self, image: Tensor) -> Tensor | None:
        """What a probe sees: (batch, features), see `segment.networks.projection.pooled`; None without encoder."""
        raise NotImplementedError

    def learned(self) -> dict[str, Tensor]:
        """The weights to start from, under the names of the network that is trained to segment."""
        raise NotImplementedError

    def views_of(self, batch: dict[str, Any]) -> Tensor:
        """The augmented images of a batch, (batch times views, channel, *patch)."""
        return self.augmented(batch)[0].contiguous(memory_format=memory_format(self.dims))

    def finish_step(self, loss: Tensor, batch: dict[str, Any], measures: dict[str, Tensor]) -> Tensor:
        """Log a step's loss and measures, and keep it in case it is not finite."""
        self.log_dict({"train/loss": loss, **measures}, batch_size=len(batch["case"]))
        self.step.add(loss, batch["case"])
        return loss


class SimCLR(Pretraining):
    """SimCLR: views of a patch attract, those of different patches repel (Chen et al. 2020, arXiv 2002.05709).

    Args:
        network: Its encoder is trained.
        optimizer: See `TrainingModule`.
        scheduler: See `TrainingModule`.
        augment: See `TrainingModule`.
        plan: See `TrainingModule`; its batch size is the number of patches, each with two views.
        seed: See `TrainingModule`.
        parameters: See `TrainingModule`.
        overlap: Least overlap of the two crops along each axis, 0 to 1.
        hidden: Hidden units of the projection.
        features: Length of an embedding.
        temperature: See `segment.losses.self_supervised.nt_xent`.

    Raises:
        UserError: When the network has no encoder, or a value is out of range.
    """

    views = 2

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        augment: Augmentation | None,
        plan: Plan,
        seed: int = 0,
        parameters: ParameterRules | None = None,
        overlap: float = 0.5,
        hidden: int = 512,
        features: int = 128,
        temperature: float = 0.1,
    ) -> None:
        learner = self.learner(network, plan, overlap, hidden, features)
        super().__init__(learner, optimizer, scheduler, augment, plan, seed, parameters)
        if not temperature > 0:
            raise UserError(f"method.temperature={temperature}: give a positive number.")
        self.overlap = overlap
        self.temperature = temperature

    @staticmethod
    def learner(network: nn.Module, plan: Plan, overlap: float, hidden: int, features: int) -> nn.Module:
        """The encoder with what is trained beside it."""
        return _projected(Projected, network, plan, overlap, hidden, features)

    def represent(self, image: Tensor) -> Tensor | None:
        """See `Pretraining`."""
        learner: Any = self.network
        result: Tensor = learner.represent(image)
        return result

    def learned(self) -> dict[str, Tensor]:
        """The weights of the encoder."""
        state = self.network.state_dict()
        return {name: value for name, value in state.items() if name.startswith("encoder.")}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the loss of one batch."""
        embeddings = self.network(self.views_of(batch))
        first, second = embeddings[0::2], embeddings[1::2]
        with torch.autocast(self.device.type, enabled=False):
            loss = nt_xent(first, second, self.temperature)
        return self.finish_step(loss, batch, _measures(first, second))


class BYOL(SimCLR):
    """BYOL: predict a slowly moving copy's embedding of the other view (Grill et al. 2020, arXiv 2006.07733).

    Args:
        network: Its encoder is trained.
        optimizer: See `TrainingModule`.
        scheduler: See `TrainingModule`.
        augment: See `TrainingModule`.
        plan: See `SimCLR`.
        seed: See `TrainingModule`.
        parameters: See `TrainingModule`.
        overlap: See `SimCLR`.
        hidden: Hidden units of projection and predictor.
        features: Length of an embedding.
        momentum: Of the target at the start; it rises to 1 along a cosine (sec. 3.3). None: 1 - 25 / steps, at least
            0.9 and at most the paper's 0.996, so that the target of a short training moves too.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        augment: Augmentation | None,
        plan: Plan,
        seed: int = 0,
        parameters: ParameterRules | None = None,
        overlap: float = 0.5,
        hidden: int = 512,
        features: int = 128,
        momentum: float | None = None,
    ) -> None:
        super().__init__(network, optimizer, scheduler, augment, plan, seed, parameters, overlap, hidden, features)
        if momentum is not None and not 0 <= momentum <= 1:
            raise UserError(f"method.momentum={momentum}: give a number from 0 to 1.")
        self.momentum = momentum
        self.followed = 0

    @staticmethod
    def learner(network: nn.Module, plan: Plan, overlap: float, hidden: int, features: int) -> nn.Module:
        """The online network and its target."""
        return _projected(Bootstrapped, network, plan, overlap, hidden, features)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the loss of one batch, both ways round."""
        image, learner = self.views_of(batch), self._learner
        predicted, aimed = learner.predict(image), learner.aim(image)
        with torch.autocast(self.device.type, enabled=False):
            loss = byol_loss(predicted[0::2], aimed[1::2]) + byol_loss(predicted[1::2], aimed[0::2])
        return self.finish_step(loss, batch, _measures(aimed[0::2], aimed[1::2]))

    def on_train_start(self) -> None:
        """Start counting the steps that the target followed."""
        super().on_train_start()
        self.followed = self.trainer.global_step

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Any], batch_idx: int) -> None:
        """Let the target follow after an optimiser step."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        step, steps = self.trainer.global_step, self.trainer.max_steps
        if step > self.followed:
            self.followed = step
            start = min(max(1 - 25 / steps, 0.9), 0.996) if self.momentum is None else self.momentum
            self._learner.follow(1 - (1 - start) * (math.cos(math.pi * step / steps) + 1) / 2)

    @property
    def _learner(self) -> Bootstrapped:
        found: Any = self.network
        learner: Bootstrapped = found
        return learner


class Restoration(Pretraining):
    """Restores what was taken from a patch: masked autoencoding or Models Genesis, by the corruption.

    Args:
        network: Maps (batch, channel, *patch) to as many channels; all of it but its heads is kept.
        optimizer: See `TrainingModule`.
        scheduler: See `TrainingModule`.
        augment: See `TrainingModule`.
        plan: See `TrainingModule`.
        seed: See `TrainingModule`.
        parameters: See `TrainingModule`.
        corrupt: What is taken away.
        sparse: Let the encoder see unmasked voxels only, see `segment.networks.sparse.SparseEncoding`; the mean squared
            error stays that of the masked voxels, without SparK's normalisation of each block.

    Raises:
        UserError: When `sparse` does not fit the corruption or the network.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        augment: Augmentation | None,
        plan: Plan,
        corrupt: Corruption,
        seed: int = 0,
        parameters: ParameterRules | None = None,
        sparse: bool = False,
    ) -> None:
        encoding = _sparse(network, corrupt) if sparse else None
        super().__init__(network, optimizer, scheduler, augment, plan, seed, parameters)
        self.corrupt = corrupt
        self.encoding = encoding

    def represent(self, image: Tensor) -> Tensor | None:
        """See `Pretraining`."""
        network: Any = self.network
        if self.encoding is not None:
            self.encoding.visible = None
        if not isinstance(getattr(network, "encoder", None), nn.Module):
            return None
        return pooled(network.encoder(pad_to_divisor(image, network.divisor)))

    def learned(self) -> dict[str, Tensor]:
        """The weights of the network without its heads and mask tokens."""
        left = (HEADS, TOKENS)
        return {name: value for name, value in self.network.state_dict().items() if not name.startswith(left)}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the mean squared error of one batch, where it is judged."""
        image = self.views_of(batch)
        pairs = [self.corrupt(one, self.seed, n) for one, n in zip(image, batch["sample"].tolist(), strict=True)]
        corrupted, mask = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        if self.encoding is not None:
            self.encoding.visible = 1 - mask  # still needed where the backward pass computes activations again
        restored = self.network(corrupted.contiguous(memory_format=memory_format(self.dims)))
        restored = restored[0] if isinstance(restored, list) else restored  # deep supervision
        with torch.autocast(self.device.type, enabled=False):
            errors = (restored.float() - image).square() * mask
            loss = errors.sum() / (mask.sum() * image.shape[1])
        if batch_idx == 0:
            self._draw(corrupted[0, 0], restored[0, 0], image[0, 0])
        return self.finish_step(loss, batch, {})

    @torch.no_grad()
    def _draw(self, *images: Tensor) -> None:
        """Show TensorBoard the middle slices of a patch: corrupted, restored, original."""
        flat = [image[len(image) // 2] if image.ndim == 3 else image for image in images]
        low, high = flat[-1].amin(), flat[-1].amax()
        picture = torch.cat([((one.float() - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) for one in flat], dim=1)
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(
                    "restored/corrupted, restored, original", picture.cpu(), self.trainer.global_step, dataformats="HW"
                )


def _projected(
    kind: type[Projected], network: nn.Module, plan: Plan, overlap: float, hidden: int, features: int
) -> Projected:
    if plan.batch_size < 2:
        raise UserError("plan.batch_size=1: this method compares the patches of a batch. Give 2 or more, better 16.")
    if not 0 <= overlap <= 1:
        raise UserError(f"method.overlap={overlap}: give a fraction from 0 to 1.")
    try:
        return kind(network, hidden, features)
    except ValueError as error:
        raise UserError(f"network: {error}, which this method trains. Use another network, or method=mae.") from error


def _sparse(network: nn.Module, corrupt: Corruption) -> SparseEncoding:
    if not isinstance(corrupt, MaskedBlocks):
        raise UserError("method.sparse=true: only masked blocks (method=mae) leave voxels out. Leave it false.")
    try:
        return SparseEncoding(network)
    except ValueError as error:
        raise UserError(
            f"method.sparse=true: {error}. Use another network, such as unet_small or nnunet_plain, or sparse=false."
        ) from error


def _measures(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    return {
        "train/alignment": alignment(first, second),
        "train/uniformity": uniformity(first),
        SPREAD: spread(first),
    }
