"""The Python API, ``import segment``."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from stopping import Interrupt

import segment

pytestmark = pytest.mark.usefixtures("without_pages")

SMALL = (
    "data=fake", "data.scans=5", "data.shape=[20,24,22]", "data.labels=2", "plan.patch_size=[8,16,16]",
    "network=unet_small", "network.encoder.features=[4,8]", "inference.mirror=[]", "trainer.precision=32-true",
    "trainer.max_steps=2", "sampler.steps_per_epoch=2", "trainer.check_val_every_n_epoch=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def given(folder) -> tuple[str, ...]:
    return (*SMALL, f"data.root={folder / 'scans (of mine)'}", f"cache={folder / 'cache'}")


@pytest.fixture(scope="module")
def run(folder, given):
    return segment.train(*given, f"output={folder / 'first'}")


@pytest.fixture(scope="module")
def dataset(folder, run):
    return segment.open_dataset(str(folder / "scans (of mine)"))


def test_importing_segment_loads_nothing_until_it_is_used():
    code = (
        "import sys, segment; heavy = ('torch', 'hydra', 'numpy', 'pandas', 'segment.api')\n"
        "assert not [name for name in heavy if name in sys.modules]\n"
        "assert set(segment.__all__) <= set(dir(segment)); segment.compare; assert 'segment.api' in sys.modules\n"
        "assert 'torch' not in sys.modules  # which scores and tables do without"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no_such"):
        segment.no_such  # noqa: B018


def test_every_public_name_is_documented():
    for name in segment.__all__:
        assert getattr(segment, name).__doc__.strip(), name


def test_train_returns_the_run_and_reuses_a_finished_one(folder, given, run, capsys):
    assert run.path == folder / "first"
    assert (run.path / "report.html").exists()
    assert run.table.loc[("foreground", "dice"), "mean"] == run.summary["foreground"]["dice"]["mean"]
    assert set(run.table.index.get_level_values("structure")) == {"foreground", *run.scans["name"]}
    written = (run.path / "report.html").stat().st_mtime_ns
    again = segment.train(*given, f"output={folder / 'first'}")
    assert (run.path / "report.html").stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(again.scans, run.scans)
    assert capsys.readouterr().out == ""  # results are returned
    assert HydraConfig.instance().cfg is None


def test_run_has_the_name_and_record_of_the_command(given, folder, monkeypatch):
    monkeypatch.chdir(folder)
    named = segment.train(*given, "seed=3")
    assert named.path.parent == Path("runs")
    assert named.path.name.startswith("fake-unet_small-fold0-seed3")
    assert named.provenance["choices"]["network"] == "unet_small"
    assert "seed=3" in named.provenance["overrides"]


def test_interrupted_training_raises_keyboard_interrupt_and_resumes(given, folder):
    with pytest.raises(KeyboardInterrupt, match="resumes"):
        segment.train(*given, f"output={folder / 'stopped'}", callbacks=[Interrupt()])
    assert segment.train(*given, f"output={folder / 'stopped'}").scans["status"].notna().all()


def test_fold_all_returns_the_summarising_run(given, folder):
    every = segment.train(*given, f"output={folder / 'all'}", "fold=all", "folds=2")
    assert len(every.scans["case"].unique()) == 5


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["network=mednxt_s"], "Did you mean 'mednext_s'"),
        (["trainer.max_step=3"], "Did you mean 'trainer.max_steps'"),
        (["-m", "seed=0,1"], "Sweeps"),
        (["data=auto"], "data.root"),
        (["data=auto", "data.root=nowhere"], "nowhere does not exist"),
        (["trainer.fast_dev_run=true"], "fast_dev_run"),
    ],
)
def test_mistakes_are_one_paragraph(overrides, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(segment.UserError, match=said) as refusal:
        segment.train(*[f"+{o}" if "fast_dev" in o else o for o in overrides])
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_run_without_a_result_is_not_loaded(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(segment.UserError, match="not finished"):
        segment.load_run(str(tmp_path))


def test_a_model_predicts_files_images_and_arrays_alike(run, dataset):
    model = segment.load_model(run)
    case = dataset.cases[0]
    image = nib.load(case.images[0])
    by_file = model.predict(str(case.images[0]), probabilities=True)
    assert by_file.mask.shape == image.shape
    np.testing.assert_array_equal(by_file.affine, image.affine)
    for other in (
        model.predict(case.images),
        model.predict(image),
        model.predict(image.get_fdata(), image.affine),
        model.predict(image.get_fdata()[..., None], image.affine),
    ):
        np.testing.assert_array_equal(other.mask, by_file.mask)
        assert other.probabilities is None
    chances = np.stack(list(by_file.probabilities.values()))
    assert list(by_file.probabilities) == list(dataset.labels)
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(np.array([*dataset.labels.values()])[chances.argmax(axis=0)], by_file.mask)
    assert len(np.unique(by_file.mask)) > 1


def test_reoriented_image_gives_the_reoriented_mask(run, dataset):
    model = segment.load_model(run.path / "model")
    image = nib.load(dataset.cases[0].images[0])
    turned = image.as_reoriented(nib.orientations.axcodes2ornt(("P", "I", "R")))
    found = model.predict(turned)
    back = nib.Nifti1Image(found.mask, found.affine).as_reoriented(nib.io_orientation(found.affine))
    np.testing.assert_array_equal(np.asarray(back.dataobj), model.predict(image).mask)


def test_predictions_are_saved_on_the_grid_of_their_scan(run, dataset, tmp_path):
    model = segment.load_model(run)
    image = nib.load(dataset.cases[0].images[0])
    image = nib.Nifti1Image(image.get_fdata(), np.diag([2.0, 2.0, 3.0, 1.0]))
    prediction = model.predict(image)
    nib.save(image, tmp_path / "scan.nii")
    for source in (prediction, model.predict(tmp_path / "scan.nii")):
        saved = nib.load(source.save(str(tmp_path / "new" / "mask.nii.gz")))
        np.testing.assert_array_equal(np.asarray(saved.dataobj), prediction.mask)
        np.testing.assert_allclose(saved.affine, image.affine)
    assert "background" in repr(prediction)


def test_differences_from_the_scored_settings_are_reported(run, dataset):
    model = segment.load_model(run)
    with pytest.warns(UserWarning, match=r"overlap is 0.25 here, 0.5 for the model's scores"):
        prediction = model.predict(dataset.cases[0].images, inference={"overlap": 0.25})
    assert len(prediction.notes) == 1
    assert model.predict(dataset.cases[0].images).notes == ()


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((np.zeros((4, 4, 4)),), {}, "affine: an array needs one"),
        ((np.zeros((4, 4, 4)), np.zeros((4, 4))), {}, "not a \\(4, 4\\) matrix"),
        ((np.zeros((4, 4, 4)), "no"), {}, "not a \\(4, 4\\) matrix"),
        ((np.full((4, 4, 4), np.nan), np.eye(4)), {}, "64 voxel\\(s\\) that are NaN"),
        ((np.zeros((4, 4, 4, 2)), np.eye(4)), {}, "with 2 channel"),
        ((np.zeros((4, 4)), np.eye(4)), {}, "2D image"),
        ((object(), np.eye(4)), {}, "is not a scan"),
        ((nib.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), np.eye(4)), {}, "has its own"),
        (("nowhere.nii.gz",), {}, "nowhere.nii.gz does not exist"),
        (("nowhere.nii.gz",), {"precision": "bf61"}, "precision=bf61"),
        (("nowhere.nii.gz",), {"accelerator": "gup"}, "Did you mean 'gpu'"),
        (("nowhere.nii.gz",), {"inference": {"overlp": 0.5}}, "Did you mean 'overlap'"),
        (("nowhere.nii.gz",), {"inference": {"overlap": 2}}, "overlap=2"),
    ],
)
def test_invalid_scans_and_settings_are_refused(run, arguments, options, said):
    with pytest.raises(segment.UserError, match=said):
        segment.load_model(run).predict(*arguments, **options)


def test_evaluate_returns_tables_for_folders_and_files(run, dataset, tmp_path):
    masks = sorted((run.path / "predictions").iterdir())
    references = [case.label for case in dataset.cases if case.id == masks[0].name.removesuffix(".nii.gz")]
    scans, summary = segment.evaluate(masks, references)
    same = run.scans[["case", "label", "name", "dice", "iou", "status"]]
    pd.testing.assert_frame_equal(scans[same.columns], same)
    pd.testing.assert_frame_equal(summary, run.table)
    alone = segment.evaluate(str(masks[0]), str(references[0]), labels=dict(dataset.labels), output=tmp_path / "new")
    pd.testing.assert_frame_equal(alone.summary, summary)
    assert {file.name for file in (tmp_path / "new").iterdir()} == {
        "scans.csv", "summary.json", "confusion.csv", "provenance.json", "report.html"
    }  # fmt: skip
    with pytest.raises(segment.UserError, match="has no prediction"):
        segment.evaluate(run.path / "predictions", references[0].parent)


def test_unpaired_files_are_refused(dataset):
    labels = [case.label for case in dataset.cases]
    with pytest.raises(segment.UserError, match="5 predictions and 2 references"):
        segment.evaluate(labels, labels[:2])
    with pytest.raises(segment.UserError, match="the other side a list"):
        segment.evaluate(labels[0].parent, labels)
    with pytest.raises(segment.UserError, match="Two references are called"):
        segment.evaluate(labels[:2], [labels[0], labels[0]])


def test_compare_returns_the_tables_of_the_command(run, given, folder, tmp_path):
    other = segment.train(*given, "optimizer.lr=0.02", f"output={folder / 'second'}")
    methods, pairs, conclusion, notes = segment.compare([run, str(other.path)], names=["a", "b"], output=tmp_path / "c")
    for name, own in (("a", run), ("b", other)):
        expected = own.summary["labels"]["structure_1"]["dice"]["mean"]
        assert methods.loc[(name, "structure_1"), "mean"] == pytest.approx(expected)
    written = pd.read_csv(tmp_path / "c" / "comparison.csv")
    pd.testing.assert_frame_equal(pairs, written, check_dtype=False)
    assert "no difference" in conclusion.lower() or "higher" in conclusion
    assert isinstance(notes, tuple)
    assert (tmp_path / "c" / "report.html").exists()
    both = segment.compare([run, other], metric=["dice", "hd95_mm"], names=["a", "b"])
    assert set(both.pairs.index.get_level_values("metric")) == {"dice", "hd95_mm"}
    assert both.methods.loc[("hd95_mm", "a", "structure_1"), "mean"] == pytest.approx(
        run.summary["labels"]["structure_1"]["hd95_mm"]["mean"]
    )
    assert (both.pairs.loc["dice", "p_holm"].to_numpy() >= pairs["p_holm"].to_numpy()).all()
    with pytest.raises(segment.UserError, match="needs two"):
        segment.compare(run)
    with pytest.raises(segment.UserError, match="different columns"):
        segment.compare([run, other], metric=["dice", "dice"])
    with pytest.raises(segment.UserError, match="level=95"):
        segment.compare([run, other], level=95)


def test_parts_are_built_by_their_names():
    small = "network.encoder.features=[4,8,8,8,8]"
    network = segment.build("network", "mednext_s", small, in_channels=1, out_channels=3).eval()
    assert network(torch.zeros(1, 1, 32, 32, 32)).shape == (1, 3, 32, 32, 32)
    flat = segment.build("network", "unet_small", spatial_dims=2, in_channels=2, out_channels=3)
    assert flat(torch.zeros(1, 2, 32, 32)).shape == (1, 3, 32, 32)
    optimizer = segment.build("optimizer", "sgd", params=flat.parameters(), lr=0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["momentum"] == 0.99
    waiting = segment.build("optimizer", "adamw", lr=0.25)
    assert waiting(flat.parameters()).param_groups[0]["lr"] == 0.25
    schedule = segment.build("scheduler", "polynomial", "trainer.max_steps=7", optimizer=optimizer)
    assert schedule.total_iters == 7
    assert segment.build("loss", "tversky", alpha=0.2).alpha == 0.2
    assert segment.build("inference", "plain", overlap=0.25).overlap == 0.25


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("netwrok", "unet"), {}, "Did you mean 'network'"),
        (("network", "unett"), {}, "Did you mean 'unet'"),
        (("network", "null"), {}, "network=null: there is no such choice"),
        (("network", "unet"), {}, "in_channels"),
        (("network", "unet"), {"in_channels": 1, "out_channels": 2, "featurs": 3}, "no such parameter"),
        (("loss", "tversky"), {"alhpa": 1}, "Did you mean 'alpha'"),
        (("optimizer", "sgd", "optimizer.lrr=1"), {}, "Did you mean 'optimizer.lr'"),
        (("optimizer", "sgd"), {"params": [], "lr": -1}, "optimizer: "),
        (("data", "auto"), {"root": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_invalid_parts_are_refused(arguments, options, said):
    with pytest.raises(segment.UserError, match=said):
        segment.build(*arguments, **options)


def test_own_configurations_are_found_beside_the_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: torch.nn.HuberLoss\ndelta: 2.0\n")
    assert segment.build("loss", "mine").delta == 2.0
    (tmp_path / "conf" / "loss" / "empty.yaml").write_text("delta: 2.0\n")
    with pytest.raises(segment.UserError, match="loss=empty: its file has no _target_"):
        segment.build("loss", "empty")


def test_loader_works_without_a_trainer_and_continues(given):
    data = segment.datamodule(*given)
    assert data.plan.patch_size == (8, 16, 16)
    loader = data.train_dataloader()
    first, second = list(loader), list(loader)
    assert [batch["sample"].tolist() for batch in (*first, *second)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert first[0]["image"].shape == (2, 1, 8, 16, 16)
    assert first[0]["reference"].shape == (2, 1, 8, 16, 16)
    expected = data.patches[5]
    torch.testing.assert_close(second[0]["image"][1], expected["image"])
    again = next(iter(data.train_dataloader()))
    torch.testing.assert_close(again["image"], first[0]["image"])
    assert [tuple(scan["image"].shape[1:]) for scan in data.val_dataloader()] == [(20, 24, 22)]
    assert len(data.train) + len(data.val) == len(data.dataset.cases)


def test_batches_are_augmented_on_request(given):
    plain = next(iter(segment.datamodule(*given).train_dataloader()))
    changed = next(iter(segment.datamodule(*given, "augment=heavy", augmented=True).train_dataloader()))
    assert changed["image"].shape == plain["image"].shape
    assert changed["sample"].tolist() == plain["sample"].tolist()
    assert not torch.equal(changed["image"], plain["image"])


def test_a_network_trained_elsewhere_predicts(given, dataset):
    data = segment.datamodule(*given)
    network = segment.build("network", "unet_small", "network.encoder.features=[4,8]", in_channels=1, out_channels=3)
    model = segment.Model(network, data.plan, data.dataset.labels, data.dataset.channels, precision="32-true")
    assert model.predict(dataset.cases[0].images).mask.shape == nib.load(dataset.cases[0].images[0]).shape
