import hashlib
import json
import os
import stat
import subprocess
import sys

import pytest

from segment import files, locks
from segment.errors import UserError


def names(folder) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "folder" / "scan.nii.gz"
    with files.written_whole(path) as aside:
        assert aside.parent == path.parent
        assert aside.name.endswith("scan.nii.gz")  # image writers choose the format by it
        aside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == {"scan.nii.gz"}


def test_only_one_process_holds_a_folder_and_finds_no_leftovers(tmp_path):
    folder = tmp_path / "runs" / "run"
    with locks.alone_in(folder):
        assert f"process {os.getpid()} on " in (folder / ".lock").read_text()
        refusal = f"another run is using this folder .process {os.getpid()} on "
        with pytest.raises(UserError, match=refusal), locks.alone_in(folder):
            pass
    assert not folder.parent.exists()
    (folder / "model" / ".partial-7-folder").mkdir(parents=True)
    (folder / "model" / ".partial-8-weights").write_text("half")
    (folder / "kept").write_text("whole")
    with locks.alone_in(folder):
        assert sorted(file.name for file in folder.rglob("*")) == [".lock", "kept", "model"]
    assert sorted(file.name for file in folder.iterdir()) == ["kept", "model"]


def test_leftovers_are_removed_unless_they_are_being_written(tmp_path):
    write = "import os, signal; from pathlib import Path; from segment.files import *\n"
    write += "with written_whole(Path('mask.nii.gz')) as file, partial_folder(Path()) as folder:\n"
    write += "    (folder / 'image.b2nd').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", write], cwd=tmp_path)
    assert len(names(tmp_path)) == 2
    elsewhere, old = tmp_path / ".partial-0a0b0c-7-mask.nii.gz", tmp_path / ".partial-0a0b0c-8-mask.nii.gz"
    elsewhere.touch()
    old.touch()
    os.utime(old, (0, 0))
    with files.written_whole(tmp_path / "new") as file, files.partial_folder(tmp_path) as folder:
        files.remove_leftovers(tmp_path)
        assert names(tmp_path) == {elsewhere.name, file.name, folder.name}
        file.write_text("whole")
    assert names(tmp_path) == {elsewhere.name, "new"}
    files.remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is duplicated"),
        ("a.yaml", "a: 1\nb: {c: 1, c: 2}", "the key 'c' is duplicated"),
        ("a.yaml", "a: &x [1]\nb: *x", "alias"),
        ("a.yaml", "a: " + "[" * 300 + "]" * 300, "nested more than 200 deep"),
        ("a.yaml", "\n".join(f"k{i}: [1, 2" for i in range(40_000)), "is damaged"),  # 600 KB, refused at once
    ],
    ids=["json-duplicate", "yaml-duplicate", "alias", "deep", "large"],
)
def test_damaged_descriptions_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        files.read_mapping(tmp_path / name)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UserError, match="it is not a file"):
        files.read_mapping(tmp_path / "a.json")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("former", [None, "former"])
def test_exception_leaves_the_previous_file(tmp_path, error, former):
    path = tmp_path / "a.txt"
    if former:
        path.write_text(former)

    def fail_half_way() -> None:
        with files.written_whole(path) as aside:
            aside.write_text("half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert (path.read_text() if path.exists() else None) == former
    assert names(tmp_path) == ({"a.txt"} if former else set())


def test_a_written_file_has_the_usual_permissions(tmp_path):
    # Not the owner-only ones of temporary files: results are shared.
    former = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "x")
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(former)


def test_text_and_json_are_read_back(tmp_path):
    files.write_text(tmp_path / "a.txt", "ä ≤ 3\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä ≤ 3\n".encode()
    content = {"b": [1, 2.5, None], "a": {"x": "y"}}
    files.write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text()) == content
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["b", "a"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_nan_is_refused_and_the_previous_file_is_kept(tmp_path, number):
    files.write_json(tmp_path / "a.json", {"dice": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", {"dice": [number]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"dice": 1.0}
    assert names(tmp_path) == {"a.json"}


def test_hashes_are_those_of_hashlib(tmp_path):
    contents = {tmp_path / str(i): os.urandom(i * 1000) for i in range(5)}
    for path, content in contents.items():
        path.write_bytes(content)
    expected = {str(path): hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    assert files.hash_files(path for _ in range(2) for path in contents) == expected
    assert list(files.hash_files(contents)) == list(expected)
    assert files.hash_files([]) == {}
    with pytest.raises(FileNotFoundError):
        files.hash_files([tmp_path / "missing"])
