"""Files whose bytes are known are not read again, and any change of them is noticed."""

import hashlib
import os

import pytest

from segment import remembered
from segment.io import content
from segment.io.content import remembered_hashes


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the files that are hashed; every file counts as unchanged for long."""
    found: list[str] = []
    real = content.file_sha256
    monkeypatch.setattr(content, "file_sha256", lambda path: found.append(path.name) or real(path))
    monkeypatch.setattr(remembered, "SETTLED", -1)
    return found


def test_only_changed_files_are_hashed_again(tmp_path, read):
    paths = [tmp_path / f"{name}.nii" for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    memory = tmp_path / "cache" / "hashes.json"
    gone = tmp_path / "gone.nii"
    expected = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert remembered_hashes([*paths, gone], memory) == expected
    assert sorted(read) == ["a.nii", "b.nii", "c.nii"]
    read.clear()
    assert remembered_hashes(paths, memory) == expected
    assert read == []
    before = paths[1].stat()
    paths[1].write_bytes(b"B.nii")  # of the same size, and with the time of before
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = expected | {str(paths[1]): hashlib.sha256(b"B.nii").hexdigest()}
    assert remembered_hashes(paths, memory) == changed
    assert read == ["b.nii"]
    memory.write_text("{")
    assert remembered_hashes(paths, memory) == changed
    assert [file.name for file in memory.parent.iterdir()] == ["hashes.json"]


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, read, monkeypatch):
    monkeypatch.setattr(remembered, "SETTLED", 2)
    (tmp_path / "a.nii").write_bytes(b"a")
    for _ in range(2):
        remembered_hashes([tmp_path / "a.nii"], tmp_path / "hashes.json")
    assert read == ["a.nii", "a.nii"]
