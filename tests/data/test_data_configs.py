import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from segment.data import open_dataset
from segment.io.images import read_label

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))


def load(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    module, _, name = content.pop("_target_").rpartition(".")
    return getattr(import_module(module), name), content


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_fits_its_function_and_says_what_it_is(path):
    function, options = load(path)
    inspect.signature(function).bind(**options)
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert options["name"] in (None, path.stem)
    assert (path.stem == "auto") == (options["root"] == "???")
    source = options.get("source", {})
    assert set(source) <= {"url", "md5", "sha256", "archive_folder", "licence"}
    assert not source or ({"md5", "sha256"} & set(source) and source["licence"])


def test_the_readme_names_every_config():
    text = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    assert CONFIGS
    assert all(f"`{path.stem}`" in text for path in CONFIGS)


@pytest.mark.parametrize(
    ("name", "folder", "scans", "labels"),
    [
        ("hippocampus", "Task04_Hippocampus", 260, {"background": 0, "Anterior": 1, "Posterior": 2}),
        ("isbi2012_em", "isbi2012_em", 30, {"background": 255, "membrane": 0}),
    ],
)
def test_real_data_open_with_their_config(shared_data, name, folder, scans, labels):
    _, options = load(next(path for path in CONFIGS if path.stem == name))
    dataset = open_dataset(**options | {"root": shared_data(folder)})
    assert (dataset.name, len(dataset.cases), dict(dataset.labels)) == (name, scans, labels)
    assert dataset.licence
    for case in dataset.cases[::10]:
        assert set(dataset.labels.encode(read_label(case.label).array).ravel()) <= set(range(len(labels)))
