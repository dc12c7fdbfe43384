"""What a layout of data sets is, for each module that reads one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from segment.data.case import Dataset
from segment.data.labels import Labels
from segment.data.problems import Report, raise_errors


class Layout(Protocol):
    """A way in which data sets lie on disk that can be recognised by what lies there; the modules here are such.

    Attributes:
        LOOKED_FOR: What it is recognised by, for a message.
    """

    LOOKED_FOR: str

    def recognise(self, root: Path) -> bool:
        """Whether a data set of this layout lies there; reads no voxel.

        Args:
            root: A folder or file that exists.
        """
        ...

    def read(
        self,
        root: Path,
        name: str,
        labels: Labels | None,
        channels: Sequence[str] | None,
        report: Report = raise_errors,
    ) -> Dataset:
        """List the cases of a data set.

        Args:
            root: Where it lies.
            name: Name to give it.
            labels: What the masks hold; None takes what the data set says itself.
            channels: Channel names; None takes what the data set says itself.
            report: Told of everything that is not sound, so that the rest is still read; raises by default.

        Returns:
            The data set, of what is sound.

        Raises:
            UserError: When nothing of it can be used.
        """
        ...
