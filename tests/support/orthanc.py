"""A DICOM server of its own on loopback: Orthanc with its DICOMweb plugin."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAM = shutil.which("Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = "" if PROGRAM and PLUGIN.exists() else "Orthanc is not installed (apt-get install orthanc orthanc-dicomweb)"


@dataclass(frozen=True)
class Server:
    """Where it listens.

    Attributes:
        web: Its DICOMweb root.
        dicom: Port of its DICOM protocol.
    """

    web: str
    dicom: int


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run an empty server, which keeps its files in a folder, until the block ends."""
    http, dicom = _free_port(), _free_port()
    settings = {
        **{"Name": "TEST", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db")},
        **{"HttpPort": http, "DicomPort": dicom, "DicomAet": "TEST", "RemoteAccessAllowed": False},
        **{"Plugins": [str(PLUGIN)], "AuthenticationEnabled": False, "HttpDescribeErrors": True},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = (folder / "orthanc.log").open("w")
    process = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
    try:
        _wait(f"http://127.0.0.1:{http}/system", process, folder / "orthanc.log")
        yield Server(f"http://127.0.0.1:{http}/dicom-web", dicom)
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _wait(url: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"Orthanc does not answer: {log.read_text()[-2000:]}")
