"""Every named network learns: fifty steps with the optimiser and rate that its file names lower the loss."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import pytorch_lightning as pl
from assembled import assembled

from segment.config.build import make
from segment.config.compose import compose
from segment.data.synthetic.demo import demo_dataset
from segment.networks.meta import on_meta

NETWORKS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "network").glob("*.yaml"))
# Networks that halve the image five times need an axis longer than 32.
PATCHES = {"small": [16, 16, 24], "large": [16, 32, 40]}


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["loss"]))


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@pytest.fixture(scope="module")
def slices(shared) -> Path:
    """A 2D data set: the middle slice of each demo scan."""
    for case in demo_dataset(shared / "demo").cases:
        for kind, file in (("images", case.images[0]), ("labels", case.label)):
            scan = nib.load(file)
            (shared / "slices" / kind).mkdir(parents=True, exist_ok=True)
            middle = np.asarray(scan.dataobj)[:, :, scan.shape[2] // 2]
            nib.save(nib.Nifti1Image(middle, scan.affine), shared / "slices" / kind / f"{case.id}.nii.gz")
    return shared / "slices"


def losses(shared: Path, name: str, *overrides: str) -> list[float]:
    """The loss of each of fifty steps."""
    given = [
        f"network={name}", f"cache={shared / 'cache'}", f"output={shared / name}", "name=x", "trainer.max_steps=50",
        "sampler.steps_per_epoch=50", "plan.batch_size=2", "logger=tensorboard", *overrides,
    ]  # fmt: skip
    recorded = Losses()
    _, module, trainer, data = assembled(given, [recorded])
    trainer.fit(module, data)
    return recorded.values


def check(name: str, values: list[float]) -> None:
    first, last = np.mean(values[:10]), np.mean(values[-10:])
    print(f"{name}: {first:.3f} -> {last:.3f}")
    assert len(values) == 50
    assert np.isfinite(values).all()
    assert last < first


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NETWORKS)
def test_fifty_steps_on_slices_of_the_demo_scans_lower_the_loss(name, shared, slices):
    check(name, losses(shared, name, "data=auto", f"data.root={slices}", "plan.patch_size=[64,96]"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NETWORKS)
def test_fifty_steps_on_the_demo_scans_lower_the_loss(name, shared):
    with on_meta():
        config = compose("train", [f"network={name}"])
        network = make(config, "network")(spatial_dims=3, in_channels=1, out_channels=2)
    patch = PATCHES["large" if max(network.divisor) > 16 else "small"]
    check(name, losses(shared, name, f"data.root={shared / 'demo'}", f"plan.patch_size={patch}"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_half_precision_ends_within_two_percent_of_single_precision(shared):
    # A narrow network: processors without bf16 multiply it a hundred times more slowly.
    narrow = ("network.encoder.features=[8,16,32]", "network.deep_supervision=1", "plan.patch_size=[16,16,24]")
    single, half = (
        np.mean(losses(shared, "nnunet_plain", f"data.root={shared / 'demo'}", f"trainer.precision={p}", *narrow)[-10:])
        for p in ("32-true", "bf16-mixed")
    )
    print(f"fp32 {single:.4f}, bf16 {half:.4f}")
    assert half == pytest.approx(single, rel=0.02)
    assert half != single
