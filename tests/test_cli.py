"""The command, started as a program."""

import os
import subprocess
import sys

import pytest

from segment import cli
from segment.config.folders import config_folders


def test_help_names_every_verb_and_imports_nothing_heavy():
    code = (
        "import sys, segment.cli as c\nsys.argv = ['segment', '--help']\n"
        "try: c.main()\nexcept SystemExit as e: assert not e.code\n"
        "print([m for m in ('torch', 'hydra', 'numpy', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert all(f"  {verb} " in done.stdout for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_its_file_and_configuration(verb):
    folders = [folder for scheme, folder in config_folders() if scheme == "file"]
    assert any((folder / f"{verb}.yaml").is_file() for folder in folders)
    assert callable(__import__(f"segment.commands.{verb}", fromlist=["run"]).run)


def test_ctrl_c_during_the_imports_ends_the_command_whatever_they_catch():
    code = (
        "import importlib, os, signal, sys, segment.cli as c\nsys.argv = ['segment', 'check']\n"
        "def swallow(name):\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException: pass\n"
        "    sys.exit(3)\n"
        "importlib.import_module = swallow\nc.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "segment: interrupted. The same command resumes from here.\n")


@pytest.mark.parametrize("words", [["--help"], ["list", "metrics"], ["train", "--help"]])
def test_output_that_nobody_reads_any_longer_ends_the_command_quietly(words):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "segment.cli", *words]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode in (cli.READER_GONE, 1)  # rich exits with 1
    assert done.stderr == ""
