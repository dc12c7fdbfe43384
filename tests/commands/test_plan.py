"""The verb plan, from a data set on disk to a plan file."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segment.commands import plan as verb
from segment.config.calls import experiment_of
from segment.config.compose import compose, compose_command
from segment.config.data import read_data
from segment.data.case import Case, Dataset
from segment.data.check.survey import Survey
from segment.data.labels import Labels
from segment.errors import UserError
from segment.preprocessing.plan_file import read_plan
from segment.workflow import plan as decide
from segment.workflow.check import checked_data
from segment.workflow.prepare import prepare

HIPPOCAMPUS = Path(__file__).parents[1] / "preprocessing" / "nnunet_plans" / "hippocampus.json"


def run(output: Path, *overrides: str) -> None:
    given = [f"output={output}", f"cache={output.parent / '.cache'}", *overrides]
    verb.run(compose("plan", given))


def test_a_plan_is_written_for_a_data_set(make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=5, shape=(20, 40, 36), channels=2, spacing=(2.0, 1.0, 1.5))
    output = tmp_path / "made" / "plan.yaml"
    run(output, "data=auto", f"data.root={root}", "data.name=balls", "memory=0.1")
    plan = read_plan(output)
    assert (plan.dataset, plan.scans, plan.preset, plan.memory) == ("balls", 5, "nnunet", 0.1)
    assert plan.pick().spacing == pytest.approx((2.0, 1.0, 1.5))
    assert plan.median_shape == (20, 40, 36)
    assert plan.channels == ("channel_0", "channel_1")
    assert len(plan.intensities) == 2
    assert 60 < plan.intensities[0].mean < 130  # balls of 70 and 120
    printed = capsys.readouterr().out
    assert "3d_fullres" in printed
    assert "x".join(map(str, plan.pick().patch_size)) in printed
    assert str(output) in printed.replace("\n", "")


def test_given_values_are_kept(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=3, shape=(20, 40, 36))
    given = ["spacing=[2,1,1]", "patch_size=[16,32,32]", "batch_size=4", "normalization=none", "preset=resenc_m"]
    run(tmp_path / "p.yaml", "data=auto", f"data.root={root}", *given)
    plan = read_plan(tmp_path / "p.yaml")
    full = plan.pick()
    assert (full.spacing, full.patch_size, full.batch_size) == ((2.0, 1.0, 1.0), (16, 32, 32), 4)
    assert full.normalization == ("none",)
    assert full.blocks[:2] == (1, 3)
    assert "# set by the user" in (tmp_path / "p.yaml").read_text()


def test_flat_images_get_only_the_2d_configuration(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", layout="folders", n=4, shape=(70, 90))
    run(tmp_path / "p.yaml", "data=auto", f"data.root={root}", "batch_size=2")
    plan = read_plan(tmp_path / "p.yaml")
    assert set(plan.configurations) == {"2d"}
    assert plan.pick().patch_size == (80, 96)
    assert plan.transpose == ()


def test_zeros_around_a_scan_are_cropped(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=3, shape=(20, 40, 36))
    for file in (root / "imagesTr").iterdir():
        scan = nib.load(file)
        voxels = np.asarray(scan.dataobj).T.copy()
        voxels[:, :15] = 0
        voxels[:, :, 30:] = 0
        nib.save(nib.Nifti1Image(voxels.T, scan.affine), file)
    run(tmp_path / "p.yaml", "data=auto", f"data.root={root}")
    plan = read_plan(tmp_path / "p.yaml")
    assert plan.median_shape == (20, 25, 30)
    assert plan.pick().normalization == ("masked_zscore",)


def test_existing_plan_is_kept_unless_overwrite_is_set(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=2, shape=(12, 16, 14))
    output = tmp_path / "p.yaml"
    output.write_text("mine")
    with pytest.raises(UserError, match=r"p\.yaml: exists.*overwrite=true"):
        run(output, "data=auto", f"data.root={root}")
    assert output.read_text() == "mine"
    run(output, "data=auto", f"data.root={root}", "overwrite=true")
    assert read_plan(output).scans == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("preset=nnunett", "^preset=nnunett.*Did you mean 'nnunet'"),
        ("memory=-1", "^memory=-1"),
        ("patch_size=[1,2,3,4]", "^patch_size="),
        ("spacing=[1,1]", "^spacing="),
        ("normalization=zscroe", "^normalization="),
        ("output=plan.txt", r"^output=plan\.txt"),
    ],
)
def test_wrong_value_is_reported_with_its_key_and_nothing_is_written(
    wrong, message, make_dataset, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    root = make_dataset(tmp_path / "data", n=2, shape=(12, 16, 14))
    with pytest.raises(UserError, match=message):
        run(tmp_path / "p.yaml", "data=auto", f"data.root={root}", wrong)
    assert {path.name for path in tmp_path.iterdir()} <= {"data", ".cache"}


def test_number_of_labels_equals_nnunets():
    assert count({"background": 0, "a": 1, "b": 2}) == 3
    assert count({"background": 0, "a": 1, "b": 2, "ignore": 3}) == 4
    assert count({"background": 0, "both": [1, 2], "one": 1}) == 3


def test_plan_can_be_made_from_training_scans_only(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    given = ["data=auto", f"data.root={root}", f"cache={tmp_path / 'cache'}", "folds=2", "fold=0"]
    works = {origin: prepare(experiment_of([*given, f"plan.from={origin}"])) for origin in ("all", "train")}
    assert (works["all"].decided.scans, works["train"].decided.scans) == (4, 2)
    assert works["all"].planned_from == "all labelled scans"
    assert works["train"].planned_from == "training scans"
    with pytest.raises(UserError, match=r"plan.from=trian: .*Did you mean 'train'"):
        experiment_of([*given, "plan.from=trian"])


def count(declared) -> int:
    case = Case("c", ())
    dataset = Dataset("d", Path(), (case,), Labels(declared), ("x",))
    return decide.fingerprint_of(dataset, {"c": Survey((8, 8), (1.0, 1.0), ((0, 8), (0, 8)), ())}).labels


def test_plan_of_task04_equals_nnunets(shared_data, tmp_path):
    """On the real scans: the fingerprint that nnU-Net's extractor took, then its plan."""
    root = shared_data("Task04_Hippocampus")
    given = ["data=hippocampus", f"data.root={root}", f"cache={tmp_path}"]
    checked = checked_data(read_data(*compose_command("plan", given)))
    found = decide.fingerprint_of(checked.dataset, checked.surveys)
    theirs = json.loads(HIPPOCAMPUS.read_text())
    assert list(found.shapes) == [tuple(shape) for shape in theirs["fingerprint"]["shapes"]]
    assert np.allclose(found.spacings, theirs["fingerprint"]["spacings"])
    assert found.relative_size == theirs["fingerprint"]["relative_size"]
    assert (found.labels, list(found.channels)) == (3, ["MRI"])
    # nnU-Net draws as many voxels of every scan by chance, we take them all.
    expected = theirs["fingerprint"]["intensities"][0]
    assert vars(found.intensities[0]) == pytest.approx(expected, rel=1e-3)
