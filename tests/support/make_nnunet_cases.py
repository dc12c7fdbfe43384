"""Makes nnunet_cases.npz: synthetic scans prepared by nnU-Net 2.8.1. Run it where that is installed."""

import numpy as np

SCHEMES = {"zscore": "ZScoreNormalization", "masked_zscore": "ZScoreNormalization", "ct": "CTNormalization"}
SCHEMES |= {"rescale": "RescaleTo01Normalization", "none": "NoNormalization"}
INTENSITY = {"mean": 60.0, "std": 180.0, "percentile_00_5": -250.0, "percentile_99_5": 700.0}
# name: shape, channels, spacing, target, normalization, transpose
CASES = {
    "anisotropic": ((9, 18, 16), 1, (3.6, 0.6, 0.6), (3.6, 0.5, 0.5), "zscore", (0, 1, 2)),
    "coarse_axis_resampled": ((10, 18, 16), 1, (4.0, 0.6, 0.7), (3.0, 0.8, 0.5), "zscore", (0, 1, 2)),
    "ct": ((12, 18, 16), 1, (1.5, 1.0, 0.9), (1.2, 0.8, 1.1), "ct", (0, 1, 2)),
    "masked": ((10, 16, 14), 2, (1.0, 1.0, 1.2), (1.3, 1.1, 1.0), "masked_zscore", (0, 1, 2)),
    "transposed": ((16, 10, 16), 1, (0.7, 3.0, 0.6), (3.0, 0.5, 0.8), "zscore", (1, 0, 2)),
    "coarse_target": ((18, 16, 14), 1, (1.0, 0.8, 0.8), (3.0, 0.9, 0.7), "rescale", (0, 1, 2)),
    "two_coarse_axes": ((10, 10, 24), 1, (2.0, 2.0, 0.5), (1.5, 1.7, 0.6), "none", (0, 1, 2)),
    "sliced": ((8, 18, 16), 1, (2.0, 0.9, 1.0), (0.7, 0.8), "zscore", (0, 1, 2)),
}


def scan(shape: tuple[int, ...], channels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth blob with noise in a border of zeros, and three labels in it."""
    random = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))

    def smooth() -> np.ndarray:
        waves = [np.tensordot(random.normal(0, 4, 3), places, 1) + random.uniform(0, 6) for _ in range(5)]
        return sum(random.normal() * np.cos(wave) for wave in waves)

    inner = np.zeros(shape, bool)
    inner[tuple(slice(border, size - border) for border, size in zip((1, 3, 2), shape, strict=True))] = True
    inner &= (places**2).sum(0) < 1.6
    image = np.stack([np.round(200 * smooth() + 100 + random.normal(0, 20, shape)) for _ in range(channels)])
    image = np.where(image == 0, 1, image).astype(np.int16) * inner
    field = smooth()
    labels = 1 + np.digitize(field, np.quantile(field, (0.6, 0.85)))
    return image, np.where(inner & ((places**2).sum(0) < 0.6), labels, 0).astype(np.uint8)


def main() -> None:
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    dataset = {"labels": {"background": 0, "one": 1, "two": 2, "three": 3}, "file_ending": ".nii.gz"}
    kept = {}
    for seed, (name, (shape, channels, spacing, target, normalization, transpose)) in enumerate(CASES.items()):
        image, labels = scan(shape, channels, seed)
        configuration = {
            "architecture": {},
            "spacing": list(target),
            "normalization_schemes": [SCHEMES[normalization]] * channels,
            "use_mask_for_norm": [normalization == "masked_zscore"] * channels,
        }
        for what, order in (("data", 3), ("seg", 1)):
            configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
            options = {"is_seg": what == "seg", "order": order, "order_z": 0, "force_separate_z": None}
            configuration[f"resampling_fn_{what}_kwargs"] = options
        plans = PlansManager(
            {
                "transpose_forward": list(transpose),
                "configurations": {"c": configuration},
                "label_manager": "LabelManager",
                "foreground_intensity_properties_per_channel": {str(i): INTENSITY for i in range(channels)},
            }
        )
        prepared, reference, facts = DefaultPreprocessor(verbose=False).run_case_npy(
            image.astype(np.float32),
            labels[None].astype(np.int16),
            {"spacing": list(spacing)},
            plans,
            plans.get_configuration("c"),
            dataset,
        )
        kept |= {
            f"{name}/image": image,
            f"{name}/labels": labels,
            f"{name}/prepared": prepared,
            f"{name}/reference": np.maximum(reference[0], 0).astype(np.uint8),  # -1: outside, which is background
            f"{name}/box": np.array(facts["bbox_used_for_cropping"]),
        }
    np.savez_compressed("nnunet_cases.npz", **kept)


if __name__ == "__main__":
    main()
