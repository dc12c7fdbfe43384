"""nnU-Net's plans.json and dataset.json as our plan, labels, network and windows.

The keys are those of nnU-Net 2.0 to 2.8 (https://github.com/MIC-DKFZ/nnUNet, nnunetv2/utilities/plans_handling). What
we would compute otherwise than nnU-Net is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.description import Description
from segment.inference.limits import LOGITS, NNUNET
from segment.inference.nnunet_folders import channel_names
from segment.preprocessing.cascade import network_channels
from segment.preprocessing.plan import RAS, STORED, Plan
from segment.validation import read_as

FIX = "Copy the results folder again, or predict with nnU-Net itself."
# nnU-Net's readers; those that leave scans as their files store them, and those that turn them to RAS.
READERS = {
    "SimpleITKIO": STORED,
    "NibabelIO": STORED,
    "Tiff3DIO": STORED,
    "NaturalImage2DIO": STORED,
    "NibabelIOWithReorient": RAS,
    "SimpleITKIOWithReorient": RAS,
}
FLAT = "NaturalImage2DIO"
NORMALIZATIONS = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
}
RESAMPLING = "resample_data_or_seg_to_shape"
ORDERS = {"data": 3, "probabilities": 1}
NETWORKS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
# Arguments of a network that have one value in everything nnU-Net plans; None: absent or null.
FIXED: dict[str, tuple[Any, ...]] = {
    "conv_bias": (True,),
    "dropout_op": (None,),
    "nonlin_first": (None, False),
    "block": (None,),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
    "squeeze_excitation": (None, False),
    "stochastic_depth_p": (None, 0, 0.0),
}


def describe(
    plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str, mirror: Sequence[int], path: Path
) -> Description:
    """What nnU-Net's files say about a model, in our terms.

    Args:
        plans: Content of plans.json.
        dataset: Content of dataset.json.
        configuration: Name of the configuration, such as ``3d_fullres``.
        mirror: Axes that windows are mirrored along.
        path: The file, for errors.

    Raises:
        UserError: When something is missing, or is done in a way that we do not know.
    """
    try:
        found = _configuration(plans, configuration)
        channels = channel_names(dataset, path)
        plan = _plan(plans, found, len(channels), path)
        declared, order = _labels(dataset)
        labels = Labels(declared, order)
        network = _network(found, plan, network_channels(plan, labels), labels.outputs)
        name = str(plans.get("dataset_name", ""))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"the key {error} is missing" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise UserError(f"{path}: cannot be read as nnU-Net's plans ({reason}). {FIX}") from error
    return Description(
        format=1,
        dataset=name,
        network=network,
        plan=plan,
        labels=labels.declared,
        channels=channels,
        inference={
            "overlap": 0.5,
            "batch_size": 1,
            "layout": "contiguous",
            "mirror": list(mirror),
            "sigma": 0.125,
            "average": LOGITS,
            "tiling": NNUNET,
            "restore": LOGITS,
        },
        region_order=labels.region_order or None,
        precision="32-true",
    )


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    every, found, seen = plans["configurations"], dict[str, Any](), list[str]()
    while name not in seen:
        seen.append(name)
        found = {**every[name], **found}
        name = every[name].get("inherits_from", name)
    if found.get("previous_stage"):
        raise ValueError(
            f"{seen[0]} is the second stage of a cascade, which needs the masks of {found['previous_stage']} and is "
            "not read"
        )
    return found


def _plan(plans: Mapping[str, Any], found: Mapping[str, Any], channels: int, path: Path) -> Plan:
    reader, preprocessor = plans["image_reader_writer"], found["preprocessor_name"]
    _require("image_reader_writer", reader, tuple(READERS))
    _require("preprocessor_name", preprocessor, ("DefaultPreprocessor",))
    for kind, order in ORDERS.items():
        _require(f"resampling_fn_{kind}", found[f"resampling_fn_{kind}"], (RESAMPLING,))
        used = dict(found[f"resampling_fn_{kind}_kwargs"])
        _require(f"resampling_fn_{kind}_kwargs.order", used.get("order"), (order,))
        _require(f"resampling_fn_{kind}_kwargs.order_z", used.get("order_z"), (0,))
        _require(f"resampling_fn_{kind}_kwargs.force_separate_z", used.get("force_separate_z"), (None,))
    schemes = list(found["normalization_schemes"])
    for scheme in schemes:
        _require("normalization_schemes", scheme, tuple(NORMALIZATIONS))
    masked = zip(schemes, found["use_mask_for_norm"], strict=True)
    names = ["masked_zscore" if use and name.startswith("ZScore") else NORMALIZATIONS[name] for name, use in masked]
    if len(names) != channels:
        raise ValueError(f"{len(names)} normalisations for {channels} channels")
    content = {
        "spacing": found["spacing"],
        "patch_size": found["patch_size"],
        "batch_size": found["batch_size"],
        "normalization": names,
        "transpose": [] if reader == FLAT else plans["transpose_forward"],
        "intensities": _intensities(plans, channels) if "ct" in names else [],
        "batch_dice": bool(found.get("batch_dice", False)),
        "orientation": RAS if reader == FLAT else READERS[reader],
        **_stages(found),
    }
    return read_as(Plan, content, path, fix=FIX)


def _intensities(plans: Mapping[str, Any], channels: int) -> list[dict[str, Any]]:
    measured = plans["foreground_intensity_properties_per_channel"]
    keys = {"mean": "mean", "sd": "std", "low": "percentile_00_5", "high": "percentile_99_5"}
    return [{ours: measured[str(number)][key] for ours, key in keys.items()} for number in range(channels)]


def _architecture(found: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the network; before nnU-Net 2.4 they stood among those of the configuration."""
    if "architecture" in found:
        written = found["architecture"]
        return str(written["network_class_name"]).rpartition(".")[2], dict(written["arch_kwargs"])
    kind, stages = str(found["UNet_class_name"]), len(found["conv_kernel_sizes"])
    if stages > 16:
        raise ValueError(f"{stages} stages are more than 16")
    return kind, {
        "n_stages": stages,
        "features_per_stage": [
            min(found["UNet_base_num_features"] * 2**stage, found["unet_max_num_features"]) for stage in range(stages)
        ],
        "kernel_sizes": found["conv_kernel_sizes"],
        "strides": found["pool_op_kernel_sizes"],
        NETWORKS.get(kind, ""): found["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": found["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "InstanceNorm",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "LeakyReLU",
    }


def _stages(found: Mapping[str, Any]) -> dict[str, Any]:
    """The stages of the network, as in `Plan`."""
    kind, arguments = _architecture(found)
    _require("network_class_name", kind, tuple(NETWORKS))
    return {
        "strides": arguments["strides"],
        "kernel_sizes": arguments["kernel_sizes"],
        "features": arguments["features_per_stage"],
        "blocks": arguments[NETWORKS[kind]],
        "decoder_blocks": arguments["n_conv_per_stage_decoder"],
    }


def _network(found: Mapping[str, Any], plan: Plan, channels: int, outputs: int) -> dict[str, Any]:
    """The network as in conf/network/nnunet_plain.yaml or nnunet_resenc_m.yaml, with the sizes of the plan."""
    kind, arguments = _architecture(found)
    for key, values in FIXED.items():
        _require(key, arguments.get(key), values)
    norm = dict(arguments.get("norm_op_kwargs") or {})
    if "InstanceNorm" not in str(arguments["norm_op"]) or (norm.get("eps", 1e-5), norm.get("affine")) != (1e-5, True):
        raise ValueError(f"norm_op is {arguments['norm_op']} with {norm}; only nnU-Net's own, InstanceNorm, is read")
    slope = dict(arguments.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)
    if not str(arguments["nonlin"]).endswith("LeakyReLU") or type(slope) is not float or not 0 <= slope < 1:
        raise ValueError(f"nonlin is {arguments['nonlin']}; only nnU-Net's own, LeakyReLU, is read")
    style = {
        "norm": ["instance", {"affine": True}],
        "act": ["leakyrelu", {"inplace": True, "negative_slope": slope}],
        "dropout": 0.0,
    }
    plain = {"_target_": "segment.networks.stages.BlockStage", "_partial_": True}
    block = {"_target_": "segment.networks.blocks.ConvBlock", "_partial_": True}
    residual = {"_target_": "segment.networks.blocks.ResidualBlock", "_partial_": True}
    is_residual = kind == "ResidualEncoderUNet"
    return {
        "_target_": "segment.networks.unet.UNet",
        "encoder": {
            "_target_": "segment.networks.encoders.staged.StagedEncoder",
            "_partial_": True,
            "features": list(plan.features),
            "strides": [list(step) for step in plan.strides],
            "kernel_sizes": [list(size) for size in plan.kernel_sizes],
            "depths": list(plan.blocks),
            "stage": {**plain, **style, **({"block": residual} if is_residual else {})},
            **({"stem": block} if is_residual else {}),
        },
        "decoder": {
            "_target_": "segment.networks.decoders.unet.UNetDecoder",
            "_partial_": True,
            "depths": list(plan.decoder_blocks),
            "stage": {**plain, **style, **({"block": block} if is_residual else {})},
        },
        "deep_supervision": len(plan.features) - 2,
        "he_slope": 0.01,
        "checkpointing": False,
        "spatial_dims": len(plan.patch_size),
        "in_channels": channels,
        "out_channels": outputs,
    }


def _labels(dataset: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    declared = dict(dataset["labels"])
    regions = any(isinstance(value, list) and len(value) > 1 for value in declared.values())
    return declared, dataset["regions_class_order"] if regions else None


def _require(key: str, value: Any, known: Sequence[Any]) -> None:
    if value not in known:
        raise ValueError(f"{key} is {str(value)[:200]}; only {', '.join(map(str, known))} is read")
