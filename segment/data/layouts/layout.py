"""Interface of the modules that read a data set layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from segment.data.case import Dataset
from segment.data.labels import Labels
from segment.data.problems import Report, raise_errors


class Layout(Protocol):
    """A layout of data sets on disk that can be detected from its files; implemented by modules of this package.

    Attributes:
        LOOKED_FOR: The files that identify the layout, for messages.
    """

    LOOKED_FOR: str

    def recognise(self, root: Path) -> bool:
        """Whether the path is a data set of this layout; reads no voxels.

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
            root: Folder or file of the data set.
            name: Name to give it.
            labels: Labels of the masks; None uses those that the data set declares.
            channels: Channel names; None uses those that the data set declares.
            report: Receives every problem, so that the rest is still read; raises by default.

        Returns:
            The data set with its valid cases.

        Raises:
            UserError: If no part of it can be used.
        """
        ...
