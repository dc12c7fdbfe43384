"""The options of every verb as dataclasses, so that values of the wrong type are rejected before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf

from segment.errors import UserError, did_you_mean
from segment.io.mask_formats import ENDINGS

Options = TypeVar("Options")
MODEL = "model"
"""Format of ``segment convert`` for model folders out of those of other programs."""


@dataclass
class TrainOptions:
    """Options of ``segment train`` besides its groups; see conf/train.yaml."""

    fold: int | str
    folds: int
    splits: str | None
    nested: bool
    weights: str | None
    labelled: int | None
    prune: float | None
    compile: bool
    cascade: str | None
    overfit: int
    validation: int | str
    postprocessing: str = field(metadata={"of": ("auto", "none")})
    calibration: str = field(metadata={"of": ("auto", "none")})
    detection: str = field(metadata={"of": ("maximum", "mean", "none")})
    seed: int
    name: str | None
    output: str | None
    cache: str
    cache_dtype: str = field(metadata={"of": ("float32", "float16")})


@dataclass
class PretrainOptions(TrainOptions):
    """Options of ``segment pretrain`` besides its groups; see conf/pretrain.yaml."""

    scans: str = field(metadata={"of": ("train", "all")})
    probe: int


@dataclass
class PredictOptions:
    """Options of ``segment predict``; see conf/predict.yaml."""

    model: str
    input: str
    output: str
    checkpoint: str = field(metadata={"of": ("last", "best")})
    overwrite: bool
    postprocessing: str = field(metadata={"of": ("scored", "none")})
    roi: str | None
    roi_margin: float
    probabilities: bool
    uncertainty: bool
    conformal: float | None
    inference: dict[str, Any]
    trust: list[str]
    accelerator: str
    precision: str | None
    output_format: str = field(metadata={"of": ("own", *ENDINGS)})
    codes: Any
    series: dict[str, str] | None
    store: bool


@dataclass
class ServeOptions:
    """Options of ``segment serve``; see conf/serve.yaml."""

    model: str
    port: int
    host: str
    engine: str | None
    auth: str | None
    log: str | None
    log_more: list[str]
    workers: int
    queue: int
    timeout: float
    stop_timeout: float
    keep: float
    max_upload: float
    folder: str | None
    checkpoint: str = field(metadata={"of": ("last", "best")})
    postprocessing: str = field(metadata={"of": ("scored", "none")})
    inference: dict[str, Any]
    trust: list[str]
    accelerator: str
    precision: str | None
    codes: Any


@dataclass
class MonitorOptions:
    """Options of ``segment monitor``; see conf/monitor.yaml."""

    log: str
    reference: str
    model: str | None
    last: int | None
    level: float
    output: str | None
    seed: int


@dataclass
class PromoteOptions:
    """Options of ``segment promote``; see conf/promote.yaml."""

    model: str
    current: str | None
    metric: str
    margin: float | None
    split: str = field(metadata={"of": ("test", "val")})
    level: float
    use: str | None


@dataclass
class ConvertOptions:
    """Options of ``segment convert``; see conf/convert.yaml."""

    input: str
    output: str
    format: str = field(metadata={"of": (*ENDINGS, MODEL)})
    reference: str | None
    labels: Any
    codes: Any
    boxes: str = field(metadata={"of": ("box", "ellipse")})
    suv: bool
    deface: bool
    face_pictures: str | None
    anonymize: bool
    names: str = field(metadata={"of": ("kept", "numbered")})
    names_table: str | None
    overwrite: bool


@dataclass
class ExportOptions:
    """Options of ``segment export``; see conf/export.yaml."""

    model: str
    output: str
    format: str = field(metadata={"of": ("onnx", "openvino")})
    precision: str = field(metadata={"of": ("fp32", "bf16", "int8")})
    checkpoint: str = field(metadata={"of": ("last", "best")})
    prune: float | None
    finetune_steps: int | None
    pruned_run: str | None
    cache: str
    input: str | None
    calibration: str | None
    series: dict[str, str] | None
    scans: int
    agreement: float | None
    overwrite: bool
    trust: list[str]


@dataclass
class EvaluateOptions:
    """Options of ``segment evaluate``; see conf/evaluate.yaml."""

    predictions: str
    references: Any
    consensus: str = field(metadata={"of": ("staple", "majority")})
    output: str
    labels: Any
    region_order: list[int] | None
    tolerance: Any
    split: str
    fold: int | None
    by: str | None
    table: str | None
    ignore_extra: bool


@dataclass
class CompareOptions:
    """Options of ``segment compare``; see conf/compare.yaml."""

    runs: Any
    output: str | None
    metric: Any
    by: Any
    table: str | None
    names: Any
    common: bool
    split: str | None
    level: float
    margin: Any
    detect: Any
    resamples: int
    seed: int
    ensembles: bool
    trust: list[str]
    accelerator: str
    format: str = field(metadata={"of": ("text", "json")})


@dataclass
class EfficiencyOptions:
    """Options of ``segment efficiency``; see conf/efficiency.yaml."""

    runs: Any
    output: str | None
    format: str = field(metadata={"of": ("text", "json")})


@dataclass
class SuggestOptions:
    """Options of ``segment suggest``; see conf/suggest.yaml."""

    model: str
    n: int
    by: str = field(metadata={"of": ("both", "uncertainty", "coverage")})
    accelerator: str
    trust: list[str]
    format: str = field(metadata={"of": ("text", "json")})
    cache: str


@dataclass
class CheckOptions:
    """Options of ``segment check``; see conf/check.yaml."""

    splits: str | None
    strict: bool
    privacy: bool
    cache: str
    format: str = field(metadata={"of": ("text", "json")})


@dataclass
class PlanOptions:
    """Options of ``segment plan``; see conf/plan.yaml."""

    output: str
    overwrite: bool
    preset: str
    memory: float | None
    spacing: Any
    patch_size: Any
    batch_size: int | None
    normalization: Any
    cache: str


@dataclass
class PrepareOptions:
    """Options of ``segment prepare``; see conf/prepare.yaml."""

    shard: str | None
    cache: str
    cache_dtype: str = field(metadata={"of": ("float32", "float16")})


@dataclass
class ShowOptions:
    """Options of ``segment show`` besides those shared with training; see conf/show.yaml."""

    what: str | None
    scans: int
    draws: int
    first: int
    output: str


@dataclass
class ListOptions:
    """Options of ``segment list`` besides those shared with training; see conf/list.yaml."""

    what: str | None
    dims: int | None
    size: Any
    format: str = field(metadata={"of": ("text", "json")})


@dataclass
class ReproduceOptions:
    """Options of ``segment reproduce`` besides those shared with training; see conf/reproduce.yaml."""

    study: str | None
    run: str
    fold: int | str
    budget: float | None
    steps: int | None
    output: str
    write: bool | str
    page: str | None
    format: str = field(metadata={"of": ("text", "json")})


@dataclass
class FetchOptions:
    """Options of ``segment fetch`` besides its data set: none."""


OPTIONS: dict[str, type] = {
    "train": TrainOptions,
    "pretrain": PretrainOptions,
    "predict": PredictOptions,
    "serve": ServeOptions,
    "monitor": MonitorOptions,
    "promote": PromoteOptions,
    "evaluate": EvaluateOptions,
    "convert": ConvertOptions,
    "export": ExportOptions,
    "compare": CompareOptions,
    "efficiency": EfficiencyOptions,
    "suggest": SuggestOptions,
    "check": CheckOptions,
    "plan": PlanOptions,
    "prepare": PrepareOptions,
    "show": ShowOptions,
    "list": ListOptions,
    "reproduce": ReproduceOptions,
    "fetch": FetchOptions,
}


def read_options(kind: type[Options], config: DictConfig) -> Options:
    """Read and type-check the options of a verb.

    Args:
        kind: The dataclass.
        config: The verb's configuration; other keys are ignored.

    Raises:
        ValidationError: When a value has the wrong type; OmegaConf's message names the key.
        UserError: When a value is not among the allowed ones.
    """
    own = {entry.name: config[entry.name] for entry in fields(cast("Any", kind))}
    typed = OmegaConf.merge(OmegaConf.structured(kind), own)
    options = cast("Options", OmegaConf.to_object(typed))
    for entry in fields(cast("Any", kind)):
        names, value = entry.metadata.get("of"), getattr(options, entry.name)
        if names and value not in names:
            hint = did_you_mean(str(value), names)
            raise UserError(f"{entry.name}={value}: there is no such {entry.name}.{hint} Choices: {', '.join(names)}.")
    return options


def texts(key: str, value: object) -> Sequence[str] | None:
    """The strings of an option that is one value or a list; None for none.

    Raises:
        UserError: It is neither.
    """
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        raise UserError(f"{key}={value}: give a list, {key}=[A,B].")
    return [str(item) for item in items]
