"""What a data set is: named cases of image files and a label file, and what the labels and channels are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segment.data.labels import Labels


@dataclass(frozen=True)
class Case:
    """One scan.

    Attributes:
        id: Unique name within the data set; predictions and table rows carry it.
        images: One file per channel, or a single file that holds every channel.
        label: The reference mask; None for a scan without one.
        group: Patient (or other unit) that must not straddle folds; None when every case stands alone.
        source: Which of several data sets put together the scan is from; the sampler can weigh them. May be empty.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    group: str | None = None
    source: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the scan, the label last."""
        return self.images if self.label is None else (*self.images, self.label)


@dataclass(frozen=True)
class Dataset:
    """Cases on disk with the names of their labels and channels.

    Attributes:
        name: Short name, used in run names and tables.
        root: Folder the cases lie in.
        cases: Labelled cases, sorted by id; training and cross-validation draw from them.
        labels: What the values in the masks stand for.
        channels: Channel names, in the order of the image channels.
        test_cases: Cases set aside by the data set's authors, with or without labels.
        licence: Licence of the data, as its authors state it.
        notice: One sentence that is printed wherever results on this data set are shown; may be empty.
    """

    name: str
    root: Path
    cases: tuple[Case, ...]
    labels: Labels
    channels: tuple[str, ...]
    test_cases: tuple[Case, ...] = ()
    licence: str = ""
    notice: str = ""
