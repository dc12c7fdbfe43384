"""The loop of a model in use: suggest, correct, convert, train on, compare, promote; by the commands themselves."""

import json
import re
import shutil

import pytest

from segment.commands import compare, convert, promote, suggest
from segment.config.compose import compose, compose_command
from segment.errors import UserError
from segment.io.images import read_label
from segment.io.masks import Naming, write_mask

LONGER = ("trainer.max_steps=24", "sampler.steps_per_epoch=24", "optimizer.lr=0.02")


def data_set(root, make_dataset):
    """Two scans with masks, four without, and six test scans with masks: ``images``, ``labels``, ``imagesTs``, ..."""
    made = make_dataset(root / "made", layout="folders", n=12, shape=(8, 16, 16), labels=1)
    for kind in ("images", "labels"):
        files = sorted((made / kind).iterdir())
        for file in files[:2]:
            (root / "data" / kind).mkdir(parents=True, exist_ok=True)
            shutil.move(file, root / "data" / kind)
        for file in files[2:] if kind == "images" else files[6:]:
            (root / "data" / f"{kind}Ts").mkdir(exist_ok=True)
            shutil.move(file, root / "data" / f"{kind}Ts")
    return root / "data", made / "labels"


def test_a_corrected_and_retrained_model_takes_the_place_of_the_one_before(
    run_train, make_dataset, tmp_path, capsys, without_pages
):
    data, truth = data_set(tmp_path, make_dataset)
    current = run_train(data, "current", "trainer.max_steps=1", "sampler.steps_per_epoch=1")

    given = ["data=auto", f"data.root={data}", f"cache={tmp_path / 'cache'}", "n=2", "format=json"]
    capsys.readouterr()
    suggest.run(*compose_command("suggest", [f"model={current}", *given]))
    suggested = [one["case"] for one in json.loads(capsys.readouterr().out)]
    assert len(suggested) == 2
    assert {f"{case}.nii.gz" for case in suggested} < {file.name for file in truth.iterdir()}

    for case in suggested:  # as an annotator saves them in 3D Slicer
        image = next((data / "imagesTs").glob(f"{case}*"))
        mask = read_label(truth / f"{case}.nii.gz").array
        (tmp_path / "corrected").mkdir(exist_ok=True)
        write_mask(tmp_path / "corrected" / f"{case}.seg.nrrd", mask, image, "seg.nrrd", Naming({"ball_1": 1}))
        shutil.move(image, data / "images")
    convert.run(compose("convert", [f"input={tmp_path / 'corrected'}", f"output={data / 'labels'}"]))

    new = run_train(data, "new", f"weights={current}", *LONGER)
    compare.run(compose("compare", [f"runs=[{current},{new}]", "split=test"]))
    assert re.search(r"weights=\S+ is better than weights=none: foreground Dice", said := capsys.readouterr().out), said
    promote.run(compose("promote", [f"model={new}", f"current={current}"]))
    assert "dice of 6 test scans is" in (said := capsys.readouterr().out), said
    assert (new / "MODEL_CARD.md").is_file()
    with pytest.raises(UserError, match=r"not promoted: dice of 6 test scans .*worse by more than that"):
        promote.run(compose("promote", [f"model={current}", f"current={new}"]))
    assert not (current / "MODEL_CARD.md").exists()
