import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.errors import UserError
from segment.preprocessing.chunks import Chunked, chunk_shape, write_chunked


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Chunked, np.ndarray]:
    array = np.random.default_rng(0).normal(size=(2, 40, 70, 33)).astype(np.float32)
    path = tmp_path_factory.mktemp("chunks") / "a.b2nd"
    write_chunked(path, array, (20, 30, 20))
    return Chunked(path, array.shape, np.float32), array


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_box_is_read_as_written(stored, data):
    chunked, array = stored
    box = tuple(slice(*sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2)))) for n in array.shape[1:])
    np.testing.assert_array_equal(chunked[(..., *box)], array[(..., *box)])
    np.testing.assert_array_equal(chunked[(1, *box)], array[(1, *box)])


def test_chunked_array_behaves_like_an_array(stored):
    chunked, array = stored
    assert (chunked.shape, chunked.dtype, chunked.ndim, len(chunked)) == (array.shape, np.float32, 4, 2)
    np.testing.assert_array_equal(np.asarray(chunked), array)
    patch = chunked[..., :5, :5, :5]
    patch += 1  # a copy: the file stays as it is
    np.testing.assert_array_equal(chunked[..., :5, :5, :5], array[..., :5, :5, :5])


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((1, 1000, 512, 512), (128, 128, 128)),
        ((1, 35, 51, 35), (40, 56, 40)),
        ((300, 512, 512), (16, 256, 256)),
        ((1, 300, 512, 512), (512, 512)),  # slices of a scan
        ((3, 2000, 2000), (512, 512)),
        ((1, 3, 1, 2), (8, 8, 8)),
    ],
)
def test_chunks_follow_the_patch(shape, patch):
    chunk, block = chunk_shape(shape, patch)
    lead = len(shape) - len(patch)
    assert chunk[:lead] == block[:lead] == (1,) * lead
    assert all(1 <= b <= c <= n for b, c, n in zip(block, chunk, shape, strict=True))
    assert np.prod(block) <= 4096
    if np.prod(shape[lead:]) > 1 << 18:
        # Chunks that a patch touches do not reach far beyond it.
        assert all(c <= max(p, 64) for c, p in zip(chunk[lead:], patch, strict=True))
    else:
        assert chunk[lead:] == shape[lead:]


def read(chunked: Chunked, number: int) -> np.ndarray:
    return chunked[:, number : number + 20, 3:40, 5:30]


def test_threads_and_forked_processes_read_the_same(stored):
    chunked, array = stored
    numbers = list(range(20)) * 3
    with ThreadPoolExecutor(4) as threads, multiprocessing.get_context("fork").Pool(2) as processes:
        by_threads = list(threads.map(read, [chunked] * len(numbers), numbers))
        by_processes = processes.starmap(read, [(chunked, number) for number in numbers])
    for number, one, other in zip(numbers, by_threads, by_processes, strict=True):
        np.testing.assert_array_equal(one, array[:, number : number + 20, 3:40, 5:30])
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("content", [b"", b"no array", bytes(1000)])
def test_invalid_file_is_refused(tmp_path, content):
    (tmp_path / "image.b2nd").write_bytes(content)
    with pytest.raises(UserError, match=r"image\.b2nd.*damaged"):
        Chunked(tmp_path / "image.b2nd", (4, 4), np.uint8)[...]
    with pytest.raises(UserError, match="damaged"):
        Chunked(tmp_path / "none.b2nd", (4, 4), np.uint8)[...]


def test_unexpected_shape_is_refused(stored):
    with pytest.raises(UserError, match="contains float32"):
        Chunked(Path(stored[0].path), (1, 40, 70, 33), np.float32)[...]


def test_no_file_stays_open_and_nothing_mapped(stored):
    chunked, _ = stored
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self").exists() else 0
    kept = [chunked[:, :4] for _ in range(50)]
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert "a.b2nd" not in Path("/proc/self/maps").read_text()
    assert len(kept) == 50
