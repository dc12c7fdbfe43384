"""What a data set is: named cases of image files and a label file, and what the labels and channels are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

MAX_LABELS = 255  # class indices are uint8 and 255 marks a value that is not declared


@dataclass(frozen=True)
class Case:
    """One scan.

    Attributes:
        id: Unique name within the data set; predictions and table rows carry it.
        images: One file per channel, or a single file that holds every channel.
        label: The reference mask; None for a scan without one.
        group: Patient (or other unit) that must not straddle folds; None when every case stands alone.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    group: str | None = None


@dataclass(frozen=True)
class Dataset:
    """Cases on disk with the names of their labels and channels.

    Networks, losses and metrics see class indices 0..L-1 (background 0, then `labels` in order); files hold the values
    in `labels`. `encode` and `decode` go between the two. Where the values are 0..L-1 already, both are the same.

    Attributes:
        name: Short name, used in run names and tables.
        root: Folder the cases lie in.
        cases: Labelled cases, sorted by id; training and cross-validation draw from them.
        labels: Label name to integer value in the files: the background first, then by value. The background is the
            label called ``background``, else the first one given; its value need not be 0.
        channels: Channel names, in the order of the image channels.
        regions: Region name to the file values whose union it is, where overlapping structures are to be found
            instead of labels; empty otherwise. `labels` then names the single values.
        region_order: Where regions are found: the file value that each region writes into a mask, in the order of
            `regions`, later ones over earlier ones (nnU-Net's ``regions_class_order``).
        ignore: File value of voxels that nobody annotated; they count in no loss and no score. None for none.
        test_cases: Cases set aside by the data set's authors, with or without labels.
        licence: Licence of the data, as its authors state it.
        notice: One sentence that is printed wherever results on this data set are shown; may be empty.
    """

    name: str
    root: Path
    cases: tuple[Case, ...]
    labels: Mapping[str, int]
    channels: tuple[str, ...]
    test_cases: tuple[Case, ...] = ()
    licence: str = ""
    notice: str = ""
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    region_order: tuple[int, ...] = ()
    ignore: int | None = None

    def __post_init__(self) -> None:
        """Put the labels in class order.

        Raises:
            ValueError: When there are no labels, more than 255, or two of them share a value.
        """
        if not 1 <= len(self.labels) <= MAX_LABELS:
            raise ValueError(f"a data set has between 1 and {MAX_LABELS} labels, not {len(self.labels)}")
        if len(set(self.labels.values())) < len(self.labels):
            raise ValueError(f"two labels share a value: {dict(self.labels)}")
        first = "background" if "background" in self.labels else next(iter(self.labels))
        ordered = sorted(self.labels.items(), key=lambda item: (item[0] != first, item[1]))
        object.__setattr__(self, "labels", dict(ordered))

    @property
    def background(self) -> str:
        """Name of the background label."""
        return next(iter(self.labels))

    @property
    def foreground(self) -> dict[str, int]:
        """Label names and file values without the background."""
        return {name: value for name, value in self.labels.items() if name != self.background}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Label names in the order of class indices, background first."""
        return tuple(self.labels)

    def encode(self, mask: np.ndarray) -> np.ndarray:
        """Turn file values into class indices.

        Args:
            mask: Integer array of any shape with the values of `labels`.

        Returns:
            uint8 array of the same shape, values 0..L-1, background 0.

        Raises:
            ValueError: When the array is not of integers, or holds values that `labels` does not name; lists them.
        """
        if mask.dtype == bool:
            mask = mask.astype(np.uint8)
        if mask.dtype.kind not in "iu":
            raise ValueError(f"a mask holds integers, not {mask.dtype}")
        if mask.size == 0:
            return np.zeros(mask.shape, np.uint8)
        low, high = int(mask.min()), int(mask.max())
        if high - low < 1 << 16:
            table = np.full(high - low + 1, MAX_LABELS, np.uint8)
            for index, value in enumerate(self.labels.values()):
                if low <= value <= high:
                    table[value - low] = index
            # Unsigned 8-bit masks, the usual ones, index the table without a wider copy.
            indices = table[mask] if low == 0 else table[mask.astype(np.int64) - low]
        else:
            indices = np.full(mask.shape, MAX_LABELS, np.uint8)
            for index, value in enumerate(self.labels.values()):
                indices[mask == value] = index
        unknown = indices == MAX_LABELS
        if unknown.any():
            found = np.unique(mask[unknown])
            listed = ", ".join(str(value) for value in found[:10]) + (", ..." if len(found) > 10 else "")
            raise ValueError(f"the mask holds undeclared value(s) {listed}; the labels are {dict(self.labels)}")
        return indices

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Turn class indices into the values that files hold; the inverse of `encode`.

        Args:
            indices: Integer array of any shape, values 0..L-1.

        Returns:
            Array of the same shape with file values, in the smallest of uint8, uint16 and int32 that holds every label.

        Raises:
            ValueError: When an index lies outside 0..L-1.
        """
        values = np.array(list(self.labels.values()), dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(values)):
            raise ValueError(f"class indices {indices.min()}..{indices.max()} outside 0..{len(values) - 1}")
        return values.astype(smallest_type(values))[indices]


def smallest_type(values: np.ndarray) -> type[np.integer]:
    """The smallest of uint8, uint16 and int32 that holds every value.

    Args:
        values: Integers.

    Returns:
        A numpy integer type.

    Raises:
        ValueError: When a value fits none of them.
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for kind in (np.uint8, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    raise ValueError(f"label values {low}..{high} do not fit 32 bits")
