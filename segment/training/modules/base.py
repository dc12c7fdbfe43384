"""What all ways of learning share: reproducible, resumable steps that stop when not finite; optimiser and schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau

from segment.augment.augmentation import Augmentation
from segment.errors import UserError
from segment.networks import bf16_convolution
from segment.networks.padding import channels_last
from segment.networks.weights import not_finite
from segment.preprocessing.plan import Plan
from segment.sampling.datamodule import PatchDataModule
from segment.text import one_line
from segment.training.checkpoints import place_between_steps
from segment.training.divergence import Diverged, Step
from segment.training.monitors import monitored
from segment.training.parameters import FACTOR, ParameterRules

MOST_OVERFLOWS = 30  # each halves the scale, which starts at 2 ** 16
MAX_RATE = 1e36  # within fp32, leaving room for the factors of optimisers


class TrainingModule(pl.LightningModule):
    """Trains a network on batches of patches; subclasses have the training step.

    Args:
        network: The network.
        optimizer: Creates the optimiser from the parameters, or from groups of them.
        scheduler: Creates the learning-rate schedule, stepped after every optimiser step, or after every validation if
            it has a `monitor`, the logged score that it follows; None for a constant rate.
        augment: Augmentation of every batch on the training device; None for none.
        plan: How scans are prepared.
        seed: The run's seed; random layers draw from (seed, step).
        parameters: Which parameters are trained, and how.
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
    ) -> None:
        super().__init__()
        bf16_convolution.install()
        self.parameter_rules = parameters or ParameterRules()
        self.parameter_rules.freeze_in(network)
        self.frozen_norms = [module for module in network.modules() if _is_frozen_norm(module)]
        self.dims = len(plan.spacing)
        self.network = channels_last(network, self.dims)
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.augment = augment
        self.plan = plan
        self.seed = seed
        self.step = Step()
        self.unjudged: Step | None = None
        self.overflows = 0
        self.stopping = False
        self.validated = False
        self.held: list[nn.Parameter] = []
        self.compiled: Callable[[Tensor], Any] | None = None

    def hold(self, new: Collection[str]) -> None:
        """Train only new parameters in the first ``head_first`` steps.

        Args:
            new: Names of the network's parameters that did not come from weights.
        """
        self.held = [parameter for name, parameter in self.network.named_parameters() if name not in new]

    def compile_network(self) -> None:
        """Let torch compile what training steps compute of the network, at the first of them.

        The network stays as it is: its weights keep their names, and whatever else calls it is not compiled.
        """
        network = self.network
        # Of a function, since a compiled module would be a part of this one, with weights of its own names.
        self.compiled = torch.compile(lambda image: network(image), dynamic=False)

    def learn(self, image: Tensor) -> Any:
        """The network's output for (batch, channel, *patch) in a training step, compiled where that was asked for.

        Raises:
            UserError: When torch cannot compile it.
        """
        if self.compiled is None:
            return self.network(image)
        from torch._dynamo.exc import TorchDynamoException  # here, since it imports the compiler

        try:
            return self.compiled(image)
        except TorchDynamoException as error:
            raise UserError(
                f"compile=true: torch {torch.__version__} cannot compile this network ({one_line(error)[:200]}). "
                "Train with compile=false."
            ) from error

    @property
    def datamodule(self) -> PatchDataModule:
        """Its batches."""
        found: PatchDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return found

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the resumed training start between two steps, not within one."""
        place_between_steps(checkpoint["loops"]["fit_loop"], self.datamodule.steps_per_epoch)

    def on_train_start(self) -> None:
        """Start an epoch that was not started before like any other."""
        epochs = self.trainer.fit_loop.epoch_loop
        if epochs.batch_progress.current.ready == 0:
            epochs.restarting = False

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Seed the random layers by the number of the batch, so that a resumed run draws the same numbers."""
        self.validated = False
        for norm in self.frozen_norms:
            norm.eval()  # else its statistics would follow the new data
        torch.manual_seed(hash((self.seed, self.trainer.fit_loop.total_batch_idx, self.global_rank)) % 2**63)

    def augmented(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Image (batch, channel, *patch) and reference (batch, 1 or 2, *patch) of a batch, augmented in fp32."""
        image, reference = batch["image"], batch["reference"]
        if self.augment is None:
            return image, reference
        with torch.autocast(self.device.type, enabled=False):
            numbers = batch["sample"].tolist()  # on the host, where the data module leaves them
            return self.augment(image, reference, numbers, self.plan.spacing, self.plan.patch_size)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients as configured, and stop before a step with a loss or gradient that is not finite."""
        if self.trainer.global_step < self.parameter_rules.head_first:
            for parameter in self.held:
                parameter.grad = None  # the optimiser then skips it
        parameters = [parameter for parameter in self.network.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([cast("Tensor", parameter.grad) for parameter in parameters])
        self.step.complete(norm, self.trainer)
        due, self.unjudged = (self.unjudged, self.step) if self.judged_late else (self.step, None)
        self._judge(due)
        self.step = Step()
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm"):
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    @property
    def judged_late(self) -> bool:
        """Whether a step is judged while the next one is computed, since the host would wait for the device."""
        return self.device.type == "cuda"

    def _judge_last(self) -> None:
        """Judge the last step before its weights are used."""
        due, self.unjudged = self.unjudged, None
        self._judge(due)

    def _judge(self, step: Step | None) -> None:
        """Stop where the losses or gradients of a complete step are not finite.

        The scaler of fp16 itself skips steps whose gradients overflow, and lowers the scale until they do not.
        """
        if step is None:
            return
        losses, gradients = step.finite()
        self.overflows = 0 if gradients else self.overflows + 1
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not losses or (not gradients and (not scaled or self.overflows == MOST_OVERFLOWS)):
            raise Diverged(self._not_finite(step, scaled), step, self.trainer)

    def _not_finite(self, step: Step, scaled: bool) -> str:
        """Describe what is not finite in the step."""
        if not all(map(math.isfinite, losses := [float(loss) for loss in step.losses])):
            return f"its loss is {', '.join(f'{loss:.4g}' for loss in losses)}"
        if scaled:
            return f"it is the last of {MOST_OVERFLOWS} in a row whose gradients overflow in fp16, however scaled"
        gradients = {name: p.grad for name, p in self.network.named_parameters() if p.grad is not None}
        if step is self.step and (name := not_finite(gradients)):
            return f"the gradient of {name} is not finite"
        return "the norm of the gradients, or a value of another process, is not finite"

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Any], batch_idx: int) -> None:
        """Let a stopping training complete its step first: checkpoints have no accumulated gradients."""
        self.stopping |= self.trainer.should_stop
        self.trainer.should_stop = self.stopping and (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights that are not finite, which keeps the last finite checkpoint."""
        self._judge_last()
        for key in ("state_dict", "current_model_state"):  # the latter are the weights before averaging
            if name := not_finite(checkpoint.get(key, {})):
                raise Diverged(f"the weights {name} are not finite", self.step, self.trainer)

    def on_validation_start(self) -> None:
        """Judge the step that the weights are of."""
        self._judge_last()

    def on_validation_end(self) -> None:
        """Tell a schedule that follows a score that it is new."""
        self.validated = True
        for config in self.trainer.lr_scheduler_configs:
            if config.monitor:
                monitored(self.trainer, config.monitor, "scheduler.monitor")

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedule; one that follows a score only after a validation, since the last score may be older."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
        elif self.validated:
            scheduler.step(metric)

    def configure_optimizers(self) -> Any:
        """Create the optimiser and the schedule.

        Raises:
            UserError: When the learning rate is out of range, or a rule for parameters does not fit.
        """
        optimizer = self.make_optimizer(self.parameter_rules.groups(self.network))
        rate = optimizer.defaults.get("lr", 0)  # a custom optimiser may have none
        if not 0 <= rate <= MAX_RATE:
            raise UserError(f"optimizer.lr={rate}: give a number from 0 to {MAX_RATE:g}.")
        self._check_groups(optimizer)
        _scale_rates(optimizer, ("lr",))
        if self.make_scheduler is None:
            return optimizer
        schedule = self.make_scheduler(optimizer)
        if isinstance(schedule, OneCycleLR):  # sets the rates of all groups to its own
            _scale_rates(optimizer, ("lr", "initial_lr", "max_lr", "min_lr"))
        return [optimizer], [{"scheduler": schedule, "interval": "step", **self._trigger(schedule)}]

    def _trigger(self, schedule: Any) -> dict[str, Any]:
        """When Lightning steps a schedule that follows a score: after the last batch of an epoch.

        Its interval ``epoch`` would come after the checkpoint, so that a resumed training would lack that step.
        """
        if not isinstance(schedule, ReduceLROnPlateau):
            return {}
        if not hasattr(schedule, "monitor"):
            raise UserError(
                f"scheduler: {type(schedule).__name__} does not say which score it follows. Use scheduler=plateau."
            )
        return {"monitor": schedule.monitor, "frequency": self.datamodule.steps_per_epoch, "strict": False}

    def _check_groups(self, optimizer: Optimizer) -> None:
        """Reject rules for what the optimiser does not have."""
        rules = self.parameter_rules
        rates = {"lr_factors": bool(rules.lr_factors), "layer_decay": rules.layer_decay != 1}
        for key, used in {**rates, "no_decay": bool(rules.no_decay)}.items():
            needed = "lr" if key in rates else "weight_decay"
            if used and needed not in optimizer.defaults:
                raise UserError(
                    f"parameters.{key}: {type(optimizer).__name__} has no {needed}. Use another optimizer=."
                )


def _is_frozen_norm(module: nn.Module) -> bool:
    """Whether a module is a batch normalisation none of whose parameters are trained."""
    own = list(module.parameters())
    return isinstance(module, _BatchNorm) and bool(own) and not any(parameter.requires_grad for parameter in own)


def _scale_rates(optimizer: Optimizer, keys: Sequence[str]) -> None:
    """Multiply learning rates of every parameter group by the group's factor."""
    for group in optimizer.param_groups:
        for key in keys:
            if key in group and FACTOR in group:
                group[key] *= group[FACTOR]
