"""The meaning of the values in masks: labels, overlapping regions, and unannotated voxels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segment.arrays import smallest_type

IGNORE = 255  # class index of unannotated voxels
MAX_LABELS = 254  # class indices are uint8, and 254 marks an undeclared value
_UNDECLARED = 254


class Labels(Mapping[str, int]):
    """The labels of a data set: a mapping of each single label's name to its value in the files, background first.

    Networks, losses and metrics use class indices 0..L-1 (background 0, then the others by value) and `IGNORE`; files
    contain values. `encode` and `decode` convert between the two.

    The *structures* are what is segmented. Without regions, they are all labels except the background, and a network
    predicts one class per voxel (softmax over L classes). With regions (nnU-Net's region-based training: BraTS's whole
    tumour is the union of three labels), each structure is a union of classes, structures may overlap, and a network
    decides for each of them separately (sigmoid, one output per region).

    Args:
        declared: Name to value, or to the list of values whose union is a region. The background is the entry called
            ``background``, else the first one; an entry called ``ignore`` gives the value of unannotated voxels.
        region_order: For each region, the value that it writes into a mask; later regions overwrite earlier ones
            (nnU-Net's ``regions_class_order``). None: the only value of each region that no later region contains.

    Raises:
        ValueError: If there are no labels or more than 254, two share a value, or a mask cannot store the regions.
    """

    def __init__(self, declared: Mapping[str, int | Sequence[int]], region_order: Sequence[int] | None = None) -> None:
        entries = {str(name): _values(name, value) for name, value in declared.items()}
        ignored = entries.pop("ignore", ())
        if len(ignored) > 1:
            raise ValueError(f"the ignore label must be a single value, not {list(ignored)}")
        self.ignore = ignored[0] if ignored else None
        self.regions: dict[str, tuple[int, ...]] = {}
        self.region_order: tuple[int, ...] = ()
        if any(len(values) > 1 for values in entries.values()):
            entries = self._set_regions(entries, region_order)
        elif region_order is not None:
            raise ValueError(f"region order {list(region_order)} is given, but no label is a union of values")
        values = {name: value for name, (value,) in entries.items()}
        if not 1 <= len(values) <= MAX_LABELS:
            raise ValueError(f"a data set must have between 1 and {MAX_LABELS} labels, not {len(values)}")
        taken = [*values.values(), *([self.ignore] if self.ignore is not None else [])]
        if len(set(taken)) < len(taken):
            raise ValueError(f"two labels share a value: {dict(declared)}")
        first = "background" if "background" in values else next(iter(values))
        self._values = dict(sorted(values.items(), key=lambda item: (item[0] != first, item[1])))

    def _set_regions(
        self, entries: Mapping[str, tuple[int, ...]], order: Sequence[int] | None
    ) -> dict[str, tuple[int, ...]]:
        """Extract the regions and return their single values, named after a region that consists of one value."""
        unions = dict(entries)
        background = unions.pop("background", ())
        if len(background) != 1:
            raise ValueError("regions need the label 'background' with one value")
        for name, values in unions.items():
            if background[0] in values or self.ignore in values:
                raise ValueError(f"region {name!r} = {list(values)} contains the value of the background or of ignore")
        if order is None:
            order = [self._own_value(name, unions) for name in unions]
        singles = sorted({value for values in unions.values() for value in values})
        if len(order) != len(unions) or not set(order) <= set(singles):
            raise ValueError(f"region order {list(order)} must give one value for each of the regions {[*unions]}")
        self.regions, self.region_order = unions, tuple(order)
        names = {values[0]: name for name, values in unions.items() if len(values) == 1}
        return {"background": background, **{names.get(value, f"value {value}"): (value,) for value in singles}}

    @staticmethod
    def _own_value(name: str, unions: Mapping[str, tuple[int, ...]]) -> int:
        later = [values for other, values in unions.items() if [*unions].index(other) > [*unions].index(name)]
        own = [value for value in unions[name] if not any(value in values for values in later)]
        if len(own) != 1:
            raise ValueError(
                f"region {name!r}: {len(own)} of its values are in no later region, so the region order "
                "(regions_class_order) must say which one to write into a mask"
            )
        return own[0]

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Labels({self.declared})"

    @property
    def declared(self) -> dict[str, Any]:
        """The first argument of `Labels` as plain data: regions as lists, the ignore value under its name."""
        entries: dict[str, Any] = dict(self)
        if self.regions:
            entries = {self.background: self[self.background]} | {n: list(v) for n, v in self.regions.items()}
        return entries | ({} if self.ignore is None else {"ignore": self.ignore})

    @property
    def background(self) -> str:
        """Name of the background label."""
        return next(iter(self))

    @property
    def foreground(self) -> dict[str, int]:
        """Single labels and their values, without the background."""
        return {name: value for name, value in self.items() if name != self.background}

    @property
    def structures(self) -> dict[str, tuple[int, ...]]:
        """Structures to segment and score: name to class indices, without the background."""
        if not self.regions:
            return {name: (index,) for index, name in enumerate(self) if index}
        index = {value: index for index, value in enumerate(self.values())}
        return {name: tuple(index[value] for value in values) for name, values in self.regions.items()}

    @property
    def outputs(self) -> int:
        """Output channels of a network: one per class or one per region."""
        return len(self.regions) or len(self)

    @property
    def painted(self) -> tuple[int, ...]:
        """With regions: the class index that each region writes into a mask, in the order of `structures`."""
        index = {value: index for index, value in enumerate(self.values())}
        return tuple(index[value] for value in self.region_order)

    def encode(self, mask: np.ndarray) -> np.ndarray:
        """Convert file values to class indices.

        Args:
            mask: Integer array of any shape with the declared values.

        Returns:
            uint8 array of the same shape, values 0..L-1, background 0, and `IGNORE`.

        Raises:
            ValueError: If the array is not of integers or contains undeclared values; lists them.
        """
        if mask.dtype == bool:
            mask = mask.astype(np.uint8)
        if mask.dtype.kind not in "iu":
            raise ValueError(f"a mask must contain integers, not {mask.dtype}")
        if mask.size == 0:
            return np.zeros(mask.shape, np.uint8)
        known = [*enumerate(self.values()), *([(IGNORE, self.ignore)] if self.ignore is not None else [])]
        low, high = int(mask.min()), int(mask.max())
        if high - low < 1 << 16:
            table = np.full(high - low + 1, _UNDECLARED, np.uint8)
            for index, value in known:
                if low <= value <= high:
                    table[value - low] = index
            # Unsigned 8-bit masks, the usual case, index the table without a wider copy.
            indices = table[mask] if low == 0 else table[mask.astype(np.int64) - low]
        else:
            indices = np.full(mask.shape, _UNDECLARED, np.uint8)
            for index, value in known:
                indices[mask == value] = index
        unknown = indices == _UNDECLARED
        if unknown.any():
            found = np.unique(mask[unknown])
            listed = ", ".join(str(value) for value in found[:10]) + (", ..." if len(found) > 10 else "")
            raise ValueError(f"the mask contains undeclared value(s) {listed}; the labels are {self.declared}")
        return indices

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Convert class indices to file values; the inverse of `encode`.

        Args:
            indices: Integer array of any shape, values 0..L-1.

        Returns:
            Array of the same shape with file values, in the smallest of uint8, uint16 and int32 that fits every label.

        Raises:
            ValueError: If an index is outside 0..L-1.
        """
        values = np.array(list(self.values()), dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= len(values)):
            raise ValueError(f"class indices {indices.min()}..{indices.max()} outside 0..{len(values) - 1}")
        return values.astype(smallest_type(values))[indices]


def _values(name: Any, value: Any) -> tuple[int, ...]:
    """One or more values, validated because they may come from a foreign file."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values or not all(type(number) is int and -(2**31) <= number < 2**31 for number in values):
        raise ValueError(f"label {name!r} must be an integer or a list of integers, not {value!r}")
    return tuple(dict.fromkeys(values))
