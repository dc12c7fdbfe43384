"""Learning to segment from few references and many images: mean teacher."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from segment.networks.padding import memory_format
from segment.training.consistency import MeanTeacher
from segment.training.modules.segmentation import SegmentationModule


class MeanTeacherModule(SegmentationModule):
    """Trains a network that also agrees, on images without reference, with a moving average of itself.

    Tarvainen and Valpola 2017 (arXiv 1703.01780), for segmentation as in Yu et al. 2019 (arXiv 1907.07034, sec. 2.1):
    both see the same augmented patch with different noise, and the mean squared difference of their probabilities is
    the consistency. The teacher, which is the better of the two, predicts the validation scans and is the model.

    Args:
        settings: Weight, momentum, ramp and noise.
        **more: See `SegmentationModule`. Batches are those of `segment.sampling.unlabelled.Paired`.
    """

    def __init__(self, settings: MeanTeacher, **more: Any) -> None:
        super().__init__(**more)
        self.settings = settings
        self.teacher = copy.deepcopy(self.network).requires_grad_(False)
        self.followed = 0

    @property
    def predicting(self) -> nn.Module:
        """The teacher."""
        return self.teacher

    def on_train_start(self) -> None:
        """Let the teacher of a new training start as the network, which may have initial weights."""
        super().on_train_start()
        self.followed = self.trainer.global_step
        if not self.followed:
            self.teacher.load_state_dict(self.network.state_dict())

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the loss of one batch: of the labelled patches, and the consistency on the others."""
        image, reference = self.augmented(batch)
        unlabelled = image[1::2]
        noisy = image.clone()
        noisy[1::2] = self._with_noise(unlabelled)
        form = memory_format(self.dims)
        scales = self.learn(noisy.contiguous(memory_format=form))
        scales = scales if isinstance(scales, list) else [scales]
        self.teacher.eval()
        with torch.no_grad():
            taught = self.teacher(self._with_noise(unlabelled).contiguous(memory_format=form))
        with torch.autocast(self.device.type, enabled=False):
            labelled = [one[0::2] for one in scales]
            supervised: Tensor = self.loss(labelled if len(labelled) > 1 else labelled[0], reference[0::2])
            difference = self._probabilities(scales[0][1::2]) - self._probabilities(taught)
            consistency = difference.square().mean()
            steps = self.trainer.max_steps
            loss = supervised + self.settings.weight_at(self.trainer.global_step, steps) * consistency
        measures = {"train/supervised": supervised, "train/consistency": consistency}
        self.log("train/loss", loss, prog_bar=True, batch_size=len(image))
        self.log_dict(measures, batch_size=len(image))
        self.step.add(loss, batch["case"])
        return loss

    def _with_noise(self, image: Tensor) -> Tensor:
        """The image with noise of its own, drawn as random layers draw: from the seed and the number of the batch."""
        return image + self.settings.noise * torch.randn_like(image)

    def _probabilities(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        return logits.sigmoid() if self.labels.regions else logits.softmax(dim=1)

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: dict[str, Any], batch_idx: int) -> None:
        """Let the teacher follow after an optimiser step."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        step = self.trainer.global_step
        if step <= self.followed:
            return
        self.followed = step
        share = 1 - self.settings.momentum_at(step)
        for old, new in zip(self.teacher.parameters(), self.network.parameters(), strict=True):
            old.lerp_(new, share)
        for kept, found in zip(self.teacher.buffers(), self.network.buffers(), strict=True):
            kept.copy_(found)
