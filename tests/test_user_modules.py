"""Modules in the current folder run only if the user names them: it may be a downloaded data set."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Forked

from segment import cli
from segment.user_modules import allow

OLD = Path(__file__).parent / "fixtures" / "runs_of_november_2026"
IMAGE = OLD / "scans" / "imagesTr" / "case_0.nii.gz"
TRACE = "from pathlib import Path\nPath(__file__).with_suffix('.ran').write_text('')\n"
# Optional imports of torch, MONAI, Lightning, Hydra, nibabel, pandas, SimpleITK and of Python itself.
OPTIONAL = (
    *("pydicom", "cv2", "tensorflow", "skimage", "cupy", "itk", "pyarrow", "numba", "comet_ml", "apex", "h5py"),
    *("dicom2nifti", "sitecustomize", "indexed_gzip", "torch_xla", "habana_frameworks", "colorama", "IPython"),
)
RUN = OLD / "seed0"
VERBS = {
    "check": ("data=auto", f"data.root={OLD / 'scans'}"),
    "predict": (f"model={RUN}", f"input={IMAGE}", "output=masks"),
}
AS_MODULE = ("-m", "segment.cli")
AS_SCRIPT = ("-P", "-c", "from segment.cli import main; main()")  # -P: the folder of a script is not the current one


@pytest.fixture
def hostile(tmp_path):
    """A folder of modules that leave a trace when they are imported."""
    for name in OPTIONAL:
        (tmp_path / f"{name}.py").write_text(TRACE)
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "evil.py").write_text(TRACE)
    return tmp_path


@pytest.mark.parametrize(("start", "verb"), [(AS_SCRIPT, "check"), (AS_MODULE, "predict")])
def test_no_module_of_the_current_folder_runs_unasked(hostile, start, verb):
    command = [sys.executable, *start, verb, *VERBS[verb]]
    done = subprocess.run(command, cwd=hostile, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not [file.name for file in hostile.rglob("*.ran")]


def test_named_module_and_what_it_imports_are_found(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("from mine.deep import Wide\nimport beside_mine\n")
    (tmp_path / "mine" / "deep.py").write_text("from beside_mine import WIDTH\nclass Wide:\n    width = WIDTH\n")
    (tmp_path / "beside_mine.py").write_text("WIDTH = 3\n")
    (tmp_path / "unnamed.py").write_text("")

    def program() -> None:
        allow("mine.Wide")
        importlib.invalidate_caches()
        found = {}
        for name in ("mine", "unnamed", "beside_mine"):
            try:
                found[name] = __import__(name).__name__
            except ImportError:
                found[name] = None
        print(json.dumps(found))

    forked = Forked(program, tmp_path, tmp_path / "printed")
    assert forked.wait() == 0, forked.errors
    assert json.loads(forked.printed) == {"mine": "mine", "unnamed": None, "beside_mine": "beside_mine"}


def test_installed_packages_come_first_and_hydras_plugins_never(tmp_path):
    (tmp_path / "yaml.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").write_text(TRACE)

    def program() -> None:
        allow("yaml.YAML")
        sys.modules.pop("yaml")
        import yaml

        assert "site-packages" in yaml.__file__
        sys.argv = ["segment", "list", "metrics"]
        cli.main()

    forked = Forked(program, tmp_path, tmp_path / "printed")
    assert forked.wait() == 0, forked.errors
    assert not list(tmp_path.rglob("*.ran"))
