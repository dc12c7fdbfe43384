"""Runs several commands in one new process, which is far faster than one process each.

Started as a script, it reads a JSON list of argument lists and prints a JSON object: for each command its exit code,
output and errors, and which of the slow libraries were imported.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

SLOW = ("torch", "monai", "pytorch_lightning", "pandas", "scipy.stats", "sklearn", "matplotlib", "SimpleITK")


def run_all(commands: list[list[str]], folder: Path, **environment: str) -> dict:
    """Run the commands in a folder; ``{"results": [[code, stdout, stderr], ...], "imported": [names]}``."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(commands),
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    return json.loads(done.stdout)


def _run(arguments: list[str]) -> tuple[int, str, str]:
    from segment import cli

    # As the real streams: in the encoding of the environment, in which some letters do not exist.
    encoding = sys.stdout.encoding
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    sys.argv = ["segment", *arguments]
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            code = 1
            traceback.print_exc(file=err)
    for stream in (out, err):
        stream.flush()
    return code, *(stream.buffer.getvalue().decode(encoding, "replace") for stream in (out, err))


if __name__ == "__main__":
    results = [_run(arguments) for arguments in json.load(sys.stdin)]
    print(json.dumps({"results": results, "imported": [name for name in SLOW if name in sys.modules]}))
