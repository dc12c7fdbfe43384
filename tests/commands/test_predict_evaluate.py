"""The verbs predict and evaluate on a trained model."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from segment.commands import evaluate, predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.files import file_sha256
from segment.inference import precision, speed
from segment.inference.inputs import find_scans
from segment.io import masks

pytestmark = pytest.mark.usefixtures("without_pages")

OLD = Path(__file__).parents[1] / "fixtures" / "runs_of_november_2026"


def run(verb, module, **values) -> None:
    overrides = [f"{key}={value}" for key, value in values.items()]
    module.run(compose(verb, overrides))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_predict_keeps_grid_format_and_name_of_the_input(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    model = run_train(root, "run", "trainer.max_steps=30", "sampler.steps_per_epoch=30")
    source = next(iter(sorted((model / "predictions").iterdir())))
    scan = nib.load(root / "imagesTr" / f"{source.name.split('.')[0]}_0000.nii.gz")
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    nib.save(scan, inputs / "plain.nii.gz")
    # The same scan, its voxels stored in another order: world positions are unchanged.
    turned = scan.as_reoriented(nib.orientations.axcodes2ornt(("P", "I", "R")))
    nib.save(turned, inputs / "turned.nii.gz")
    image = sitk.GetImageFromArray(np.asarray(scan.dataobj).T)
    image.SetOrigin((0, 0, 0))
    sitk.WriteImage(image, inputs / "other.mha")

    run("predict", predict, model=model, input=inputs, output=tmp_path / "masks")
    names = ["other.mha", "plain.nii.gz", "predictions.json", "turned.nii.gz"]
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == names
    plain = nib.load(tmp_path / "masks" / "plain.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "masks" / "plain.nii.gz"), voxels(source))
    assert len(np.unique(voxels(source))) > 1
    mask = nib.load(tmp_path / "masks" / "turned.nii.gz")
    assert mask.shape == turned.shape
    np.testing.assert_allclose(mask.affine, turned.affine)
    back = mask.as_reoriented(nib.io_orientation(mask.affine))
    np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(plain.dataobj))
    assert sitk.ReadImage(tmp_path / "masks" / "other.mha").GetSize() == image.GetSize()

    with pytest.raises(UserError, match="would overwrite an input"):
        run("predict", predict, model=model, input=inputs, output=inputs)


def test_existing_masks_are_replaced_only_with_overwrite_and_windows_can_be_chosen(tmp_path, capsys):
    given = {"model": OLD / "seed0", "input": OLD / "scans/imagesTr/case_0.nii.gz", "output": tmp_path / "masks"}
    run("predict", predict, **given)
    before = (tmp_path / "masks" / "case_0.nii.gz").stat().st_mtime_ns
    with pytest.raises(UserError, match=r"output=.*case_0\.nii\.gz exists.*overwrite=true"):
        run("predict", predict, **given)
    assert (tmp_path / "masks" / "case_0.nii.gz").stat().st_mtime_ns == before
    capsys.readouterr()
    run("predict", predict, **given, overwrite="true", inference="mirror")
    assert (tmp_path / "masks" / "case_0.nii.gz").stat().st_mtime_ns > before
    assert settings(tmp_path / "masks")["predicted"]["mirror"] == "all"
    assert "mirror is all here, [] for the model's scores" in capsys.readouterr().err


def test_the_same_command_goes_on_after_an_interruption_and_another_does_not(tmp_path, monkeypatch, capsys):
    given = {
        "model": OLD / "seed0",
        "input": OLD / "scans/imagesTr",
        "output": tmp_path / "masks",
        "inference": "plain",
    }
    whole = given | {"output": tmp_path / "whole"}
    run("predict", predict, **whole)
    names = sorted(settings(tmp_path / "whole")["scans"])
    written = []
    write = masks.write_mask

    def interrupted(path: Path, *others: Any, **options: Any) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, *others, **options)
        written.append(path.name)

    monkeypatch.setattr(masks, "write_mask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("predict", predict, **given)
    assert {file.name for file in (tmp_path / "masks").iterdir()} == {*written, "predictions.part"}
    stamps = [(tmp_path / "masks" / name).stat().st_mtime_ns for name in written]
    monkeypatch.setattr(masks, "write_mask", write)
    with pytest.raises(UserError, match="interrupted prediction with another model or other settings"):
        run("predict", predict, **given | {"inference": "mirror"})
    run("predict", predict, **given)
    assert [(tmp_path / "masks" / name).stat().st_mtime_ns for name in written] == stamps
    assert sorted(settings(tmp_path / "masks")["scans"]) == names
    for name in names:
        assert (tmp_path / "masks" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "masks" / "predictions.part").exists()


def settings(output: Path) -> dict:
    return json.loads((output / "predictions.json").read_text())


@pytest.mark.parametrize("fast", [pytest.param(True, marks=pytest.mark.slow), False])
def test_predict_uses_the_settings_that_the_model_was_scored_with(
    run_train, make_dataset, tmp_path, monkeypatch, capsys, fast
):
    root = make_dataset(tmp_path / "data", n=4)
    given = ("inference.overlap=0.25", "inference.mirror=[0]", "inference.batch_size=3", "inference.sigma=0.2")
    model = run_train(root, "run", "trainer.precision=bf16-mixed", *given[:3], "+" + given[3])
    content = json.loads((model / "model" / "model.json").read_text())
    assert content["precision"] == "bf16-mixed"
    assert {key: content["inference"][key] for key in ("overlap", "mirror", "batch_size", "sigma")} == {
        "overlap": 0.25, "mirror": [0], "batch_size": 3, "sigma": 0.2
    }  # fmt: skip
    assert json.loads((model / "summary.json").read_text())["protocol"]["precision"] == "bf16-mixed"
    source = next(iter(sorted((model / "predictions").iterdir())))
    scan = root / "imagesTr" / f"{source.name.split('.')[0]}_0000.nii.gz"

    monkeypatch.setattr(precision, "bf16_in_hardware", lambda: fast)
    run("predict", predict, model=model, input=scan, output=tmp_path / "masks")
    record = settings(tmp_path / "masks")
    if fast:
        assert record["predicted"] == record["scored"]
        assert record["notes"] == []
        (mask,) = (file for file in (tmp_path / "masks").iterdir() if file.suffix == ".gz")
        np.testing.assert_array_equal(voxels(mask), voxels(source))
    else:
        assert record["predicted"] == record["scored"] | {"precision": "32-true"}
        assert "precision is 32-true here, bf16-mixed for the model's scores" in " ".join(record["notes"])
        assert record["notes"][0] in capsys.readouterr().err
        run("predict", predict, model=model, input=scan, output=tmp_path / "insisted", precision="bf16-mixed")
        assert settings(tmp_path / "insisted")["predicted"] == record["scored"]
    more = {"output": tmp_path / "told", "precision": "32-true", "inference.overlap": 0.5, "inference.mirror": []}
    run("predict", predict, model=model, input=scan, **more)
    assert len(settings(tmp_path / "told")["notes"]) == 3

    (tmp_path / "references").mkdir()
    shutil.copy(root / "labelsTr" / source.name, tmp_path / "references")
    masks = {"predictions": tmp_path / "told", "references": tmp_path / "references"}
    run("evaluate", evaluate, **masks, output=tmp_path / "scores")
    protocol = json.loads((tmp_path / "scores" / "summary.json").read_text())["protocol"]
    assert (protocol["overlap"], protocol["test_time_augmentation"], protocol["precision"]) == (0.5, "none", "32-true")
    made = settings(tmp_path / "told")["scans"][source.name]
    assert made["sha256"] == {str(scan): hashlib.sha256(scan.read_bytes()).hexdigest()}
    assert made["seconds"] > 0
    page = (tmp_path / "scores" / "report.html").read_text()
    assert "Evaluation of told" in page
    assert "not recorded" not in page
    assert page.count('src="data:image/png') == 5  # with the image, which predictions.json names
    assert "<h2" in page
    assert "Learning curves" not in page

    # The masks that the training left say how they were made too.
    masks |= {"predictions": model / "predictions", "ignore_extra": "true"}
    run("evaluate", evaluate, **masks, output=tmp_path / "again")
    protocol = json.loads((tmp_path / "again" / "summary.json").read_text())["protocol"]
    assert (protocol["overlap"], protocol["test_time_augmentation"]) == (0.25, "mirror [0]")
    assert "window overlap 0.25" in capsys.readouterr().out


def test_model_without_a_precision_is_predicted_in_that_of_its_run(
    run_train, make_dataset, tmp_path, monkeypatch, capsys
):
    root = make_dataset(tmp_path / "data", n=4)
    model = run_train(root, "run", "trainer.precision=32-true")
    description = model / "model" / "model.json"
    content = json.loads(description.read_text())
    del content["precision"]
    way = {key: content["inference"][key] for key in ("batch_size", "layout")}
    assert way == {"batch_size": 4, "layout": "contiguous"}  # what auto became when the model was scored
    description.write_text(json.dumps(content))
    run("predict", predict, model=model, input=root / "imagesTr", output=tmp_path / "masks")
    record = settings(tmp_path / "masks")
    assert record["scored"]["precision"] == "32-true"
    assert record["predicted"] == record["scored"]
    assert way.items() <= record["predicted"].items()
    monkeypatch.setattr(speed.Timer, "seconds", lambda timer, way, warm=True: way[0] + (way[1] == "channels_last"))
    run("predict", predict, model=model, input=root / "imagesTr", output=tmp_path / "fast", inference="fast")
    assert settings(tmp_path / "fast")["predicted"] == record["scored"] | {"batch_size": 1}
    note = "batch_size is 1 here, 4 for the model's scores, the fastest measured on this machine."
    assert settings(tmp_path / "fast")["notes"] == [note]
    assert note in capsys.readouterr().err
    assert settings(tmp_path / "masks")["notes"] == []
    shutil.move(model / "model", tmp_path / "alone")
    run("predict", predict, model=tmp_path / "alone", input=root / "imagesTr", output=tmp_path / "others")
    assert "precision of the scores is unknown" in " ".join(settings(tmp_path / "others")["notes"])
    with pytest.raises(UserError, match=r"precision=bf16-mixd.*Did you mean 'bf16-mixed'"):
        run(
            "predict",
            predict,
            model=tmp_path / "alone",
            input=root / "imagesTr",
            output=tmp_path / "no",
            precision="bf16-mixd",
        )


def test_non_finite_logits_are_refused(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    model = run_train(root, "run")
    scan = next((root / "imagesTr").iterdir())
    weights = model / "model" / "weights.safetensors"
    state = load_file(weights)
    save_file({key: torch.full_like(value, 3e38) for key, value in state.items()}, weights)
    with pytest.raises(UserError, match=rf"{scan.name}: the network gives values that are not finite"):
        run("predict", predict, model=model, input=scan, output=tmp_path / "masks")
    assert not list((tmp_path / "masks").iterdir())


def test_evaluate_scores_masks_from_any_program(make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=3)
    masks = tmp_path / "masks"
    masks.mkdir()
    files = sorted((root / "labelsTr").iterdir())
    for number, file in enumerate(files):
        image = nib.load(file)
        array = np.asarray(image.dataobj).copy()
        if number == 0:
            array[array == 2] = 0
        nib.save(nib.Nifti1Image(array, image.affine), masks / file.name)
    run("evaluate", evaluate, predictions=masks, references=root / "labelsTr", output=tmp_path / "scores")
    scans = pd.read_csv(tmp_path / "scores" / "scans.csv")
    first = scans[scans["case"] == files[0].name.split(".")[0]].set_index("name")
    assert first.loc["ball_2", "status"] == "missed"
    assert first.loc["ball_2", "dice"] == 0
    assert set(scans[scans["status"] == "ok"]["dice"]) == {1.0}
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["labels"]["ball_2"]["dice"]["mean"] == pytest.approx(2 / 3)
    assert summary["empty"]["missed"] == {"ball_1": 0, "ball_2": 1}
    assert "ball_2" in capsys.readouterr().out
    # Nothing says which images these masks belong to: their contours and errors are shown on black.
    page = (tmp_path / "scores" / "report.html").read_text()
    assert "The images are not known: no predictions.json beside the masks names them." in page
    assert re.findall(r"<figcaption>([^<]+)", page)[:4] == ["reference", "prediction", "both contours", "errors"]


def test_evaluate_scores_subgroups_of_scans(tmp_path, capsys):
    names = [f"s{place:02d}" for place in range(12)]
    for folder in ("masks", "references"):
        (tmp_path / folder).mkdir()
    for place, name in enumerate(names):
        mask = np.zeros((6, 6, 6), np.uint8)
        mask[1:5, 1:5, 1:5] = 1
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "references" / f"{name}.nii.gz")
        mask[1, : place % 3 + 1] = 0  # every scan of the north loses one slice more
        mask[4] = 0 if place < 6 else mask[4]
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "masks" / f"{name}.nii.gz")
    rows = "".join(f"{name},{'north' if place < 6 else ''}\n" for place, name in enumerate(names))
    (tmp_path / "sites.csv").write_text("case,site\n" + rows)
    folders = {"predictions": tmp_path / "masks", "references": tmp_path / "references", "output": tmp_path / "scores"}
    run("evaluate", evaluate, **folders, by="site", table=tmp_path / "sites.csv")
    found = json.loads((tmp_path / "scores" / "summary.json").read_text())["subgroups"]
    scans = pd.read_csv(tmp_path / "scores" / "scans.csv")
    dice = scans["dice"].to_numpy()
    assert found["column"] == "site"
    assert found["groups"]["north"]["foreground"]["dice"]["mean"] == pytest.approx(dice[:6].mean())
    assert found["groups"]["unknown"]["label_1"]["hd95_mm"]["n"] == 6  # an empty cell
    (apart,) = [row for row in found["differences"] if (row["metric"], row["structure"]) == ("dice", "foreground")]
    assert apart["difference"] == pytest.approx(dice[:6].mean() - dice[6:].mean())
    assert apart["p"] < 0.01
    page = (tmp_path / "scores" / "report.html").read_text()
    assert "Scores by site" in page
    assert re.search(r"north +0\.\d{4}", capsys.readouterr().out)


def test_evaluate_refuses_another_grid_and_writes_nothing(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=2)
    file = next((root / "labelsTr").iterdir())
    masks = tmp_path / "masks"
    masks.mkdir()
    for other in (root / "labelsTr").iterdir():
        image = nib.load(other)
        affine = np.diag([2.0, 1, 1, 1]) if other == file else image.affine
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), masks / other.name)
    with pytest.raises(UserError, match=file.name):
        run("evaluate", evaluate, predictions=masks, references=root / "labelsTr", output=tmp_path / "scores")
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    ("names", "channels", "expected"),
    [
        (["a.nii.gz", "b.nii.gz"], 1, {"a.nii.gz": 1, "b.nii.gz": 1}),
        (["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"], 2, {"a.nii.gz": 2, "b.nii.gz": 2}),
        (["a_0000.nii.gz"], 1, {"a.nii.gz": 1}),
        (["scan_2019.png"], 1, {"scan_2019.png": 1}),
        (["a.png"], 3, {"a.png": 1}),
        (["s_0001.nii.gz", "s_0002.nii.gz"], 1, {"s_0001.nii.gz": 1, "s_0002.nii.gz": 1}),
        (["s_0000.nii.gz", "s_0001.nii.gz"], 1, {"s_0000.nii.gz": 1, "s_0001.nii.gz": 1}),
        (["s.nii.gz", "s_0000.nii.gz"], 1, {"s.nii.gz": 1, "s_0000.nii.gz": 1}),
        (["UPPER.NII.GZ"], 1, {"UPPER.NII.GZ": 1}),
        (["A_0000.NII.GZ", "A_0001.NII.GZ"], 2, {"A.NII.GZ": 2}),
    ],
)
def test_scans_are_found_with_their_channels(tmp_path, names, channels, expected):
    for name in names:
        (tmp_path / name).touch()
    assert {name: len(files) for name, files in find_scans(tmp_path, channels)} == expected


def test_colour_images_are_whole_scans_whatever_digits_end_their_names(tmp_path):
    names = [f"frame_{number:04d}.png" for number in range(3)]
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert [(name, len(files)) for name, files in find_scans(tmp_path, 3)] == [(name, 1) for name in names]


def test_two_files_of_one_mask_are_refused(tmp_path):
    for name in ("eye.jpg", "eye.png"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"eye\.jpg and eye\.png would have one mask, eye\.png"):
        list(find_scans(tmp_path, 1))


def test_a_missing_channel_is_named(tmp_path):
    (tmp_path / "a_0000.nii.gz").touch()
    with pytest.raises(UserError, match="a_0000"):
        list(find_scans(tmp_path, 2))


def test_predict_can_use_the_best_checkpoint(tested_folds, tmp_path, capsys):
    model = shutil.copytree(tested_folds / "cv-fold0", tmp_path / "run")
    best, inputs = model / "checkpoints" / "best.ckpt", tested_folds / "data" / "images" / "test"
    content = torch.load(best, weights_only=True)
    state = {key: -value if key.endswith("weight") else value for key, value in content["state_dict"].items()}
    torch.save(content | {"state_dict": state, "global_step": 3}, best)
    run("predict", predict, model=model, input=inputs, output=tmp_path / "last")
    assert "best.ckpt" not in capsys.readouterr().out
    run("predict", predict, model=model, input=inputs, output=tmp_path / "best", checkpoint="best")
    told = capsys.readouterr()
    assert "weights of checkpoints/best.ckpt, step 3" in told.out
    assert "checkpoint is best here, last for the model's scores" in told.err
    last, other = (sorted((tmp_path / name).glob("*.png")) for name in ("last", "best"))
    assert [a.name for a in last] == [b.name for b in other]
    assert [a.read_bytes() for a in last] != [b.read_bytes() for b in other]
    record = json.loads((tmp_path / "best" / "predictions.json").read_text())
    assert record["model"]["weights"] == str(best)
    assert record["model"]["sha256"] == file_sha256(best)
    assert "checkpoint is best" in record["notes"][0]

    handed = shutil.copytree(model / "model", tmp_path / "handed" / "model")
    with pytest.raises(UserError, match=r"checkpoint=best: .*best\.ckpt does not exist"):
        run("predict", predict, model=handed, input=inputs, output=tmp_path / "none", checkpoint="best")
    torch.save(content | {"state_dict": {"network.other": torch.ones(1)}}, best)
    with pytest.raises(UserError, match=r"best\.ckpt: does not fit"):
        run("predict", predict, model=model, input=inputs, output=tmp_path / "none", checkpoint="best")


def test_damaged_scans_do_not_stop_the_others(tmp_path, capsys):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    source = OLD / "scans/imagesTr"
    shutil.copy(source / "case_0.nii.gz", inputs / "A.NII.GZ")
    (inputs / "b.nii.gz").write_bytes((source / "case_1.nii.gz").read_bytes()[:500])
    (inputs / "c.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    shutil.copy(source / "case_2.nii.gz", inputs / "d.nii.gz")
    given = {"model": OLD / "seed0", "output": tmp_path / "masks"}
    with pytest.raises(UserError) as refused:
        run("predict", predict, input=inputs, **given)
    said = str(refused.value)
    assert said.startswith(f"2 of 4 scans could not be predicted. {inputs / 'b.nii.gz'} cannot be read")
    assert f"{inputs / 'c.nii.gz'} does not exist" in said
    assert said.endswith(f"The other masks (2) are in {tmp_path / 'masks'}.")
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["A.NII.GZ", "d.nii.gz", "predictions.json"]
    record = settings(tmp_path / "masks")
    assert (sorted(record["scans"]), sorted(record["failed"])) == (["A.NII.GZ", "d.nii.gz"], ["b.nii.gz", "c.nii.gz"])
    assert nib.load(tmp_path / "masks" / "A.NII.GZ").shape == nib.load(inputs / "A.NII.GZ").shape
