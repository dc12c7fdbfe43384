"""Text that is burned into the pixels of images, found by Tesseract."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segment.errors import UserError

LEAST_SIZE = 32  # pixels of a side; smaller images have no room for a caption
_CHARACTER = (5, 80)  # least and largest height in pixels
_MOST_PARTS = 400  # shapes of the size of characters; more are a texture
_HEIGHT = 34  # pixels of characters that Tesseract reads best
_CONFIDENCE, _DOUBTFUL = 65, 25  # of 100: least mean of a view, weighted by length, and least of a word in it
_BRIGHT = 216  # of 255
_ZERO = re.compile(r"(?<=\d)[Oo]|[Oo](?=\d)")  # beside a digit, the letter is more often the digit
_LETTERS = 3  # of the longest word
_MARGIN = 3  # pixels around a word
_LARGEST = 2400  # pixels of a side that Tesseract is given
_SECONDS = 20


@dataclass(frozen=True)
class Word:
    """A word in an image.

    Attributes:
        text: What it says, not to be repeated to users.
        box: First and last row and column, the last ones excluded: ``(top, bottom, left, right)``.
    """

    text: str
    box: tuple[int, int, int, int]


def why_not() -> str:
    """Why text cannot be looked for; empty if it can."""
    try:
        import pytesseract  # noqa: F401
    except ImportError:
        return "needs the package pytesseract: install segment[privacy]"
    return "" if shutil.which("tesseract") else "needs the program tesseract: apt-get install tesseract-ocr"


def find_text(image: np.ndarray) -> list[Word]:
    """Find text in an image, whether brighter or darker than what is around it.

    Shapes of the size of characters are isolated at several brightnesses, so that an image without any is not given to
    Tesseract, which takes seconds for a texture.

    Args:
        image: ``(y, x)`` or, in colours, ``(y, x, 3)``; numbers of any type.

    Returns:
        Its words in reading order: those of three letters or digits, and shorter ones on their lines.

    Raises:
        UserError: If Tesseract is missing.
    """
    reason = why_not()
    if reason:
        raise UserError(f"Text in pixels {reason}.")
    grey = _eight_bits(image)
    if min(grey.shape) < LEAST_SIZE:
        return []
    found: list[tuple[float, Word]] = []
    for view in (grey, 255 - grey):
        for level in _levels(view):
            found += _words(view, level)
    kept: list[Word] = []
    for _, word in sorted(found, key=lambda item: -item[0]):
        if not any(_overlap(word.box, other.box) for other in kept):
            kept.append(word)
    kept.sort(key=lambda word: (word.box[0] // _HEIGHT, word.box[2]))
    sure = [word for word in kept if sum(map(str.isalnum, word.text)) >= _LETTERS]
    return [word for word in kept if any(_beside(word.box, other.box) for other in sure)]


def _eight_bits(image: np.ndarray) -> np.ndarray:
    grey = image.astype(np.float32)
    grey = grey if grey.ndim == 2 else grey.max(axis=2)
    low, high = float(grey.min()), float(grey.max())
    return ((grey - low) * (255 / (high - low or 1))).astype(np.uint8)


def _levels(view: np.ndarray) -> list[int]:
    """Brightnesses above which characters may stand out."""
    from skimage.filters import threshold_otsu

    first = int(threshold_otsu(view)) if view.min() < view.max() else 255
    above = view[view > first]
    second = int(threshold_otsu(above)) if above.size and above.min() < above.max() else first
    middle = float(np.median(view))
    spread = float(np.median(np.abs(view - middle)))
    return sorted({first, second, int(min(_BRIGHT, middle + 8 * spread))})  # of noise, 5 standard deviations


def _words(view: np.ndarray, level: int) -> Iterator[tuple[float, Word]]:
    """The words of what is brighter than a level and of the size of characters."""
    import pytesseract
    from PIL import Image

    kept, height = _characters(view > level)
    if not kept.any():
        return
    shown, (top, left) = _isolated(view, kept, round(height))
    scale = min(max(_HEIGHT / height, 0.5), 4, _LARGEST / max(shown.shape))
    size = (max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale)))
    larger = Image.fromarray(shown).resize(size, Image.Resampling.BICUBIC)
    try:
        table = pytesseract.image_to_data(
            larger, config="--psm 11", output_type=pytesseract.Output.DICT, timeout=_SECONDS
        )
    except RuntimeError:  # out of time, on a texture
        return
    columns = ("text", "conf", "left", "top", "width", "height")
    found = [entry for entry in zip(*(table[key] for key in columns), strict=True) if entry[0].strip()]
    total = sum(float(entry[1]) * len(entry[0]) for entry in found)
    if total < _CONFIDENCE * max(1, sum(len(entry[0]) for entry in found)):
        return
    for text, confidence, x, y, width, tall in found:
        if float(confidence) >= _DOUBTFUL and any(map(str.isalnum, text)):
            first, start = top + int(y / scale), left + int(x / scale)
            box = (first, first + int(tall / scale) + 1, start, start + int(width / scale) + 1)
            yield total, Word(_ZERO.sub("0", text), _within(box, view.shape))


def _isolated(view: np.ndarray, kept: np.ndarray, margin: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Characters, black on white, without what is farther from them, and where the cut-out begins."""
    from scipy.ndimage import binary_dilation

    near = binary_dilation(kept, iterations=2)
    low, high = np.median(view[near & ~kept]), np.median(view[kept])
    stretched = np.clip((view - low) * (255 / max(1, high - low)), 0, 255)
    rows, columns = (np.flatnonzero(near.any(axis)) for axis in (1, 0))
    box = tuple(slice(max(0, where[0] - margin), where[-1] + 1 + margin) for where in (rows, columns))
    shown = np.pad(np.where(near, 255 - stretched, 255)[box], margin, constant_values=255)
    return shown.astype(np.uint8), (box[0].start - margin, box[1].start - margin)


def _characters(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """The shapes of the size of characters, and their median height."""
    from scipy.ndimage import find_objects, label

    labelled, count = label(mask, np.ones((3, 3)))
    chosen, heights = [], []
    for number, part in enumerate(find_objects(labelled), start=1):
        height, width = (axis.stop - axis.start for axis in part)
        if _CHARACTER[0] <= height <= _CHARACTER[1] and width <= 12 * height:
            chosen.append(number)
            heights.append(height)
    if not _LETTERS <= len(chosen) <= _MOST_PARTS:
        return np.zeros_like(mask), 1
    wanted = np.zeros(count + 1, bool)
    wanted[chosen] = True
    middle = float(np.median(heights))
    for number, part in enumerate(find_objects(labelled), start=1):  # points, commas and hyphens beside them
        if not wanted[number] and max(axis.stop - axis.start for axis in part) < middle:
            around = tuple(slice(max(0, axis.start - int(middle)), axis.stop + int(middle)) for axis in part)
            high, wide = (axis.stop - axis.start for axis in part)
            wanted[number] = (high >= 2 or wide >= 3) and bool(wanted[labelled[around]].any())
    return wanted[labelled], middle


def _within(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, bottom, left, right = box
    return (
        *(max(0, top - _MARGIN), min(shape[0], bottom + _MARGIN)),
        *(max(0, left - _MARGIN), min(shape[1], right + _MARGIN)),
    )


def _beside(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether two boxes are on one line."""
    rows = min(a[1], b[1]) - max(a[0], b[0])
    return rows > max(a[1] - a[0], b[1] - b[0]) / 2


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether two boxes share half of the smaller one; neighbours share their margins."""
    rows, columns = min(a[1], b[1]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[2], b[2])
    smaller = min((box[1] - box[0]) * (box[3] - box[2]) for box in (a, b))
    return rows > 0 and columns > 0 and rows * columns > smaller / 2
