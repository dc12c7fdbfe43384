"""The command ``segment VERB key=value ...``: finds the verb and the configuration folders and runs the verb."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from segment.config.folders import config_folders
from segment.errors import Stopped, did_you_mean
from segment.user_modules import leave_current_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from segment.workflow.experiment import Command

# What each verb does, and its usual keys.
VERBS = {
    "train": ("trains and scores every validation scan", "data=NAME network=NAME fold=N"),
    "pretrain": ("learns from images without masks", "data=NAME method=NAME network=NAME"),
    "predict": ("predicts masks of new scans on their grids", "model=RUN input=FILE_OR_FOLDER output=FOLDER"),
    "evaluate": ("scores masks from any program", "predictions=FOLDER references=FOLDER output=FOLDER"),
    "compare": ("compares runs scan by scan", "runs=[RUN,RUN,...] [output=FOLDER]"),
    "efficiency": ("compares runs by their number of labels", "runs=[RUN,RUN,...] [output=FOLDER]"),
    "suggest": ("says which scans to label next", "model=RUN data=NAME n=10"),
    "check": ("checks a data set", "data=NAME [format=json]"),
    "plan": ("writes a data set's plan", "data=NAME output=plan.yaml preset=nnunet"),
    "prepare": ("prepares a data set's scans, or a share", "data=NAME [shard=3/16]"),
    "show": ("draws the effect of augmentation", "augment data=NAME output=FILE.png"),
    "convert": ("converts DICOM series, images and masks", "input=FILE_OR_FOLDER output=FOLDER format=nifti"),
    "export": ("writes a model for another engine, compared", "model=RUN format=openvino|onnx output=FOLDER"),
    "serve": ("answers requests for masks over HTTP", "model=RUN [port=8080]"),
    "monitor": ("tells whether served scans have shifted", "log=FILE reference=RUN [output=FOLDER]"),
    "promote": ("writes a model card, unless it is worse", "model=RUN current=RUN [margin=0.01]"),
    "reproduce": ("runs a published study and compares it", "study=NAME [run=RUN] [fold=N] [budget=HOURS|steps=N]"),
    "fetch": ("downloads a data set, verifies its hash", "data=NAME [data.root=FOLDER]"),
    "list": ("lists what is available", "[networks [network=NAME]|data|studies|metrics] [format=json]"),
}

READER_GONE = 128 + 13  # exit code, as of a program that SIGPIPE ends

HELP = """segment: medical image segmentation experiments, described by configuration, scored scan by scan.

usage: segment VERB [key=value ...]

{verbs}

Every key=value is a Hydra override: segment VERB --help lists the choices, --cfg job prints the configuration,
-m runs a sweep (segment train -m network=nnunet_plain,mednext_s fold=0,1).
Paths need no quotes other than the shell's: 'input=scan (1).nii'.
A folder conf/ in the current directory is searched before the built-in one.

  segment train                                        trains on the demonstration data, results in runs/
  segment train data=hippocampus data.root=FOLDER      trains on Medical Segmentation Decathlon Task04
  segment train data=auto data.root=FOLDER             trains on your own folder
  segment compare 'runs=runs/*'                        shows which run is better, and whether significantly
  tensorboard --logdir runs                            shows curves and images of runs
"""


def main() -> None:
    """Entry point of the console script."""
    try:
        _run()
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        if _is_read():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes at its end
        sys.exit(READER_GONE)


def _is_read() -> bool:
    """Whether whatever reads the standard output, such as `head`, is still there."""
    try:
        sys.stdout.flush()
        watched = select.poll()
        watched.register(sys.stdout.fileno(), select.POLLOUT)
        return not any(events & (select.POLLERR | select.POLLHUP) for _, events in watched.poll(0))
    except BrokenPipeError:
        return False
    except (OSError, ValueError):  # no file, as in a notebook, or closed
        return True


def _run() -> None:
    """Run the verb that the command line names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # letters that the terminal does not know must not end a command
            stream.reconfigure(errors="backslashreplace")
    leave_current_folder()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:<10} {what:<44} {usage}" for verb, (what, usage) in VERBS.items())))
        sys.exit(0 if arguments else 2)
    if arguments[0] == "--version":
        from segment import __version__

        print(__version__)
        return
    verb, *rest = arguments
    if verb not in VERBS:
        print(
            f"segment: there is no verb {verb!r}.{did_you_mean(verb, VERBS)} 'segment --help' lists all verbs.",
            file=sys.stderr,
        )
        sys.exit(2)
    if verb in ("list", "show") and rest and "=" not in rest[0] and not rest[0].startswith("-"):
        rest[0] = f"what={rest[0]}"
    with _ended_by_ctrl_c() as imported:
        launch = importlib.import_module("segment.config.launch")

        def work(config: DictConfig, command: Command) -> float | None:
            # The verb's imports take seconds; a misspelt key should be reported before them.
            module = importlib.import_module(f"segment.commands.{verb}")
            imported()
            result: float | None = module.run(config, command)
            return result

        launch.launch(verb, rest, work, config_folders(), VERBS[verb][1])


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[Callable[[], None]]:
    """Let Ctrl-C end the process at once while modules are imported: some of them catch KeyboardInterrupt.

    Yields:
        Call it before the work begins, which saves what it has when it is interrupted.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        stopped = Stopped(number)
        os.write(2, f"segment: {stopped}\n".encode())
        os._exit(stopped.code)

    def leave() -> None:
        if signal.getsignal(signal.SIGINT) is end:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nohup and `&` ignore Ctrl-C
        signal.signal(signal.SIGINT, end)
    try:
        yield leave
    finally:
        leave()


if __name__ == "__main__":
    main()
