import contextlib
import hashlib
import http.server
import io
import stat
import tarfile
import threading
import urllib.request
import zipfile

import pytest
from rich.console import Console

from segment.data import fetch
from segment.data.fetch import Limits, download
from segment.errors import UserError


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; breaks off after `server.break_after` bytes, once for each entry of that list."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        if address := server.redirects.get(self.path):
            self.send_response(302)
            self.send_header("Location", address)
            self.end_headers()
            return
        content = server.files.get(self.path)
        server.ranges.append(self.headers.get("Range"))
        if content is None:
            self.send_error(404)
            return
        start = 0
        if self.headers.get("Range") and server.resumes:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", server.length or str(len(content) - start))
        self.end_headers()
        stop = server.break_after.pop(0) if server.break_after else len(content)
        if server.pause is None:
            self.wfile.write(content[start : start + stop])
            return
        for place in range(start, start + stop):  # a byte now and then
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[place : place + 1])
                self.wfile.flush()
            if server.stopped.wait(server.pause):
                return


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.ranges, running.break_after, running.resumes = {}, [], [], True
        running.redirects, running.length, running.pause, running.stopped = {}, None, None, threading.Event()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.stopped.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def get(server, tmp_path):
    def call(name, content, **options):
        if content is not None:
            server.files[f"/{name}"] = content
            options.setdefault("sha256", hashlib.sha256(content).hexdigest())
        quiet = Console(file=io.StringIO())
        return download(f"http://127.0.0.1:{server.server_port}/{name}", tmp_path / "set", console=quiet, **options)

    return call


def tar_of(members, mode="w:gz"):
    """Members are (name, content) or ready TarInfo objects."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as pack:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                pack.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                pack.addfile(info, io.BytesIO(member[1]))
    return stream.getvalue()


def zip_of(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in members:
            pack.writestr(name, content)
    return stream.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


GOOD = [("Task/dataset.json", b"{}"), ("Task/imagesTr/a.nii.gz", bytes(5000)), ("Task/imagesTr/._a.nii.gz", b"mac")]


def left(tmp_path):
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["t.tar", "t.tar.gz", "t.tgz", "t.zip"])
@pytest.mark.parametrize("folder", [None, "Task"])
def test_archive_is_unpacked_into_the_folder(get, tmp_path, name, folder):
    pack = zip_of(GOOD) if name.endswith("zip") else tar_of(GOOD, "w" if name == "t.tar" else "w:gz")
    assert get(name, pack, archive_folder=folder) == tmp_path / "set"
    assert left(tmp_path) == ["set/dataset.json", "set/imagesTr/a.nii.gz"]
    assert (tmp_path / "set/imagesTr/a.nii.gz").read_bytes() == bytes(5000)


def test_existing_folder_is_left_unchanged(get, server, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("x")
    out = io.StringIO()
    download("http://127.0.0.1:1/a.tar", tmp_path / "set", sha256="0", console=Console(file=out, width=1000))
    assert "already exists" in out.getvalue()
    assert left(tmp_path) == ["set/mine"]


def test_plain_file_is_stored_in_the_folder(get, tmp_path):
    md5 = hashlib.md5(b"abc").hexdigest()
    get("a.csv", b"abc", sha256=None, md5=md5)
    assert left(tmp_path) == ["set/a.csv"]


def test_a_wrong_checksum_keeps_nothing(get, tmp_path):
    for options in ({"sha256": "0" * 64}, {"sha256": None, "md5": "0" * 32}):
        with pytest.raises(UserError, match=r"t\.tar\.gz has the (sha256|md5) \w+, not 0+; the file was deleted"):
            get("t.tar.gz", tar_of(GOOD), **options)
        assert left(tmp_path) == []


def test_a_source_without_checksum_or_of_another_kind_is_refused(get, tmp_path):
    with pytest.raises(UserError, match="neither sha256 nor md5"):
        get("t.tar.gz", tar_of(GOOD), sha256=None)
    with pytest.raises(UserError, match="not an http or https address"):
        download((tmp_path / "x.tar").as_uri(), tmp_path / "set", sha256="0")


def test_broken_connection_is_resumed(get, server, tmp_path):
    server.break_after = [300, 400]
    content = bytes(range(256)) * 8
    get("a.bin", content)
    assert server.ranges == [None, "bytes=300-", "bytes=700-"]
    assert (tmp_path / "set/a.bin").read_bytes() == content


def test_an_interrupted_download_is_continued_by_the_next_call(get, server, tmp_path):
    content = bytes(range(256)) * 8
    server.break_after = [100, 100, 100, 100]
    with pytest.raises(UserError, match=r"400 bytes are kept in .*a\.bin\.part; run again to resume"):
        get("a.bin", content)
    assert left(tmp_path) == ["a.bin.part"]
    server.ranges.clear()
    get("a.bin", content)
    assert server.ranges == ["bytes=400-"]
    assert (tmp_path / "set/a.bin").read_bytes() == content
    assert left(tmp_path) == ["set/a.bin"]


@pytest.mark.parametrize("kept", [0, 700, 2048])
def test_a_server_that_cannot_resume_sends_the_file_again(get, server, tmp_path, kept):
    content = bytes(range(256)) * 8
    (tmp_path / "a.bin.part").write_bytes(content[:kept])
    server.resumes = False
    get("a.bin", content)
    assert (tmp_path / "set/a.bin").read_bytes() == content


def test_complete_part_is_used_and_a_wrong_one_is_deleted(get, server, tmp_path):
    content = bytes(2048)
    (tmp_path / "a.bin.part").write_bytes(content)
    get("a.bin", content)
    assert left(tmp_path) == ["set/a.bin"]
    (tmp_path / "b.bin.part").write_bytes(b"x" * 4000)
    (tmp_path / "set").rename(tmp_path / "old")
    with pytest.raises(UserError, match="was deleted"):
        get("b.bin", content)
    get("b.bin", content)
    assert (tmp_path / "set/b.bin").read_bytes() == content


def test_unreachable_addresses_are_named(get, server, tmp_path):
    with pytest.raises(UserError, match=r"gone\.tar returned 404"):
        get("gone.tar", None, sha256="0")
    assert server.ranges == [None]  # not tried again
    with pytest.raises(UserError, match="could not be downloaded"):
        download("http://127.0.0.1:1/a.tar", tmp_path / "set", sha256="0", console=Console(file=io.StringIO()))
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", b"x")],
        [("a/../../evil", b"x")],
        [("/evil", b"x")],
        [("..\\evil", b"x")],
        [("C:\\evil", b"x")],
        [link("a", "/etc/passwd")],
        [link("a", ".."), ("a/evil", b"x")],
        [("b", b"x"), link("a", "b", tarfile.LNKTYPE)],
        [link("a", "", tarfile.CHRTYPE)],
        [link("a", "", tarfile.FIFOTYPE)],
    ],
)
def test_a_malicious_tar_writes_nothing(get, tmp_path, members):
    with pytest.raises(UserError, match=r"points outside|link or device"):
        get("t.tar.gz", tar_of([("fine", b"x"), *members]))
    assert left(tmp_path) == ["t.tar.gz.part"]
    assert not (tmp_path.parent / "evil").exists()


def test_a_malicious_zip_writes_nothing(get, tmp_path):
    symlink = zipfile.ZipInfo("a")
    symlink.external_attr = (stat.S_IFLNK | 0o777) << 16
    for member in (("../evil", b"x"), ("/evil", b"x"), (symlink, b"/etc/passwd")):
        with pytest.raises(UserError, match=r"points outside|link or device"):
            get("t.zip", zip_of([("fine", b"x"), member]))
        (tmp_path / "t.zip.part").unlink()
        assert left(tmp_path) == []


@pytest.mark.parametrize("pack", [tar_of([("big", bytes(10**6))]), zip_of([("big", bytes(10**6))])], ids=["tar", "zip"])
def test_an_archive_that_unpacks_too_large_keeps_nothing(get, tmp_path, pack):
    name = "t.zip" if pack[:2] == b"PK" else "t.tar.gz"
    with pytest.raises(UserError, match="unpacks to more than"):
        get(name, pack, limits=Limits(bytes=999_999))
    assert left(tmp_path) == [f"{name}.part"]
    get(name, pack, limits=Limits(bytes=1_000_000))


def test_zip_with_wrong_sizes_is_stopped(get, tmp_path):
    pack = bytearray(zip_of([("big", bytes(10**6))]))
    for at in (pack.find(b"PK\x03\x04") + 22, pack.find(b"PK\x01\x02") + 24):  # the two places of the unpacked size
        pack[at : at + 4] = (10).to_bytes(4, "little")
    with pytest.raises(UserError, match=r"t\.zip (cannot be unpacked|unpacks to more)"):
        get("t.zip", bytes(pack), limits=Limits(bytes=1000))
    assert left(tmp_path) == ["t.zip.part"]


def test_too_many_files_are_stopped(get, tmp_path):
    with pytest.raises(UserError, match="more than 9 files"):
        get("t.tar.gz", tar_of([(f"f{number}", b"") for number in range(10)]), limits=Limits(files=9))


def test_a_damaged_archive_and_a_wrong_folder_are_named(get, tmp_path):
    with pytest.raises(UserError, match=r"t\.tar\.gz cannot be unpacked"):
        get("t.tar.gz", tar_of(GOOD)[:60])
    with pytest.raises(UserError, match="has no folder 'Tsak'"):
        get("u.tar.gz", tar_of(GOOD), archive_folder="Tsak")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/a.bin", "file:///etc/passwd", "data:,x", "//[x"])
def test_redirects_to_anything_but_http_are_not_followed(get, server, tmp_path, address):
    server.redirects["/a.bin"] = address
    with pytest.raises(UserError, match=r"redirects to|returned 302|could not be downloaded"):
        get("a.bin", b"x")
    assert left(tmp_path) == []


def test_redirects_within_http_are_followed_and_never_out_of_https(get, server, tmp_path):
    server.redirects["/a.bin"] = f"http://127.0.0.1:{server.server_port}/b.bin"
    server.files["/b.bin"] = b"abc"
    get("a.bin", None, sha256=hashlib.sha256(b"abc").hexdigest())
    assert left(tmp_path) == ["set/a.bin"]
    request = urllib.request.Request("https://example.org/a.bin")
    with pytest.raises(UserError, match=r"redirects to 'http://example\.org/b', which is not followed"):
        fetch._WebOnly().redirect_request(request, None, 302, "", {}, "http://example.org/b")


@pytest.mark.parametrize("pause", [0.02, 10])
def test_server_that_stalls_is_left(get, server, tmp_path, monkeypatch, pause):
    monkeypatch.setattr(fetch, "_TIMEOUT_S", 0.15)
    server.pause = pause
    with pytest.raises(UserError, match=r"timed out|sends less than 1,000 bytes a second.* are kept in .*a\.bin\.part"):
        get("a.bin", bytes(100_000))
    assert left(tmp_path) == ["a.bin.part"]


def test_length_that_is_no_number_is_ignored(get, server, tmp_path):
    server.length = "many"
    get("a.bin", b"abc")
    assert left(tmp_path) == ["set/a.bin"]
