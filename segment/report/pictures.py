"""Panels of one scan: image, reference and prediction side by side, as plain RGB arrays.

Convention: slices are axial, anterior is up and the patient's left is on the right of the picture (radiological).
Flat images are shown as they lie in their file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Okabe and Ito's palette, told apart with every kind of colour vision (https://jfly.uni-koeln.de/color/), less black;
# orange and blue first, the pair that differs most on grey.
_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
_LEAST, _MOST = 256, 640  # height of a picture, and the longest side it is enlarged or reduced to, in pixels
_OPACITY = 0.35
_GAP, _CAPTION = 6, 20
_PANE = 224  # longest side of a picture in a sheet, in pixels


def colours(n_classes: int) -> np.ndarray:
    """Colours of the classes; after seven labels they begin again.

    Args:
        n_classes: Number of classes, background included.

    Returns:
        uint8 ``(n_classes, 3)``; the background, which is never painted, is black.
    """
    palette = np.zeros((n_classes, 3), np.uint8)
    for index in range(1, n_classes):
        palette[index] = _OKABE_ITO[(index - 1) % len(_OKABE_ITO)]
    return palette


def panel(
    image: np.ndarray, reference: np.ndarray, prediction: np.ndarray, n_classes: int, spacing: tuple[float, ...]
) -> np.ndarray:
    """Draw image, reference and prediction of one slice side by side.

    The slice is the one on which the reference has most voxels, else the prediction, else the middle one. Grey values
    run from the 0.5th to the 99.5th percentile of the slice. Labels are painted translucent with an opaque outline.

    Args:
        image: ``(C, z, y, x)`` or ``(C, y, x)``, any numbers, in canonical axes (z inferior to superior, y posterior to
            anterior, x left to right). The first channel is shown; a flat image of three channels is shown in colour.
        reference: Class indices ``(z, y, x)`` or ``(y, x)``.
        prediction: Class indices of the same shape.
        n_classes: Number of classes, background included.
        spacing: Voxel size of the spatial axes in array order, any unit; sets the aspect ratio.

    Returns:
        uint8 ``(H, W, 3)``, the pictures each at least 256 pixels high, with captions above.

    Raises:
        ValueError: The three arrays do not lie on one grid.
    """
    if not image.shape[1:] == reference.shape == prediction.shape or len(spacing) != reference.ndim:
        raise ValueError(
            f"image {image.shape}, masks {reference.shape}, {prediction.shape} and {len(spacing)} spacings"
        )
    shown = image if image.ndim == 3 else image[:1]
    if reference.ndim == 3:
        index = _fullest_slice(reference, prediction)
        # Rows run posterior to anterior and columns left to right: both are turned round for the radiological view.
        shown, reference, prediction = (part[..., index, ::-1, ::-1] for part in (shown, reference, prediction))
    grey = _window(_shown(shown), _limits(_shown(shown)))
    size, canvas = _sizes(reference.shape, (spacing[-2], spacing[-1]))
    base = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))
    panes = [base, *(_painted(base, mask, colours(n_classes), size) for mask in (reference, prediction))]
    return _side_by_side(panes, canvas, ("image", "reference", "prediction"))


def sheet(
    rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    captions: Sequence[Sequence[Sequence[str]]],
    spacing: tuple[float, float],
) -> np.ndarray:
    """Draw slices in rows, with the outlines of their labels and words beneath.

    Grey values of a row run from the 0.5th to the 99.5th percentile of its first slice, so that changes show.

    Args:
        rows: Slices of a row as image ``(C, y, x)`` and class indices ``(y, x)``, all of one shape; the first channel
            is shown, or three in colour. Class 255 (nobody annotated) is outlined in white.
        captions: The lines of words of each slice.
        spacing: Voxel size of the rows and columns of a slice, any unit.

    Returns:
        uint8 ``(H, W, 3)``.
    """
    size, canvas = _sizes(rows[0][0][1].shape, spacing)
    size, canvas = (_fitted(side) for side in (size, canvas))
    paints = colours(256)
    paints[255] = 255
    font = ImageFont.load_default(size=13)
    line = 16
    heights = [size[1] + line * max(len(words) for words in row) + 2 * _GAP for row in captions]
    whole = Image.new("RGB", (len(rows[0]) * (canvas[0] + _GAP) - _GAP, sum(heights)))
    draw = ImageDraw.Draw(whole)
    for top, row, words_of_row in zip(np.cumsum([0, *heights[:-1]]).tolist(), rows, captions, strict=True):
        window = _limits(_shown(row[0][0]))
        for column, ((image, mask), words) in enumerate(zip(row, words_of_row, strict=True)):
            grey = Image.fromarray(_window(_shown(image), window)).resize(size, Image.Resampling.BICUBIC)
            left = column * (canvas[0] + _GAP)
            whole.paste(Image.fromarray(_painted(np.asarray(grey), mask, paints, size, opacity=0)), (left, top))
            for number, text in enumerate(words):
                place = (left + 4, top + size[1] + 2 + line * number)
                draw.text(place, text, fill=(255, 255, 255) if number == 0 else (190, 190, 190), font=font)
    return np.asarray(whole)


def png(array: np.ndarray) -> bytes:
    """Encode a picture as PNG.

    Args:
        array: uint8 ``(H, W, 3)``.

    Returns:
        The bytes of the file.
    """
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _fullest_slice(reference: np.ndarray, prediction: np.ndarray) -> int:
    """The slice with most foreground in the reference, else in the prediction, else the middle one."""
    for mask in (reference, prediction):
        voxels = np.count_nonzero(mask, axis=(1, 2))
        if voxels.any():
            return int(voxels.argmax())
    return len(reference) // 2


def _shown(image: np.ndarray) -> np.ndarray:
    """What is shown of a slice (C, y, x): three channels in colour, else the first, as (y, x, 3 or 1)."""
    return np.nan_to_num(np.moveaxis(image if len(image) == 3 else image[:1], 0, -1).astype(np.float64))


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Values that are shown black and white: one percentile and the other."""
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:  # a small bright structure on a constant ground lies outside both percentiles
        low, high = values.min(), values.max()
    return float(low), float(high)


def _window(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Grey or colour values (y, x, 1 or 3) as uint8 RGB, from one limit to the other."""
    low, high = limits
    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return np.repeat((scaled * 255).round().astype(np.uint8), 3 // values.shape[-1], axis=-1)


def _sizes(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of a picture and of the canvas it stands on, as (width, height) in pixels."""
    height, width = float(shape[0]), shape[1] * spacing[1] / spacing[0]
    scale = max(_LEAST / height, min(1.0, _MOST / max(height, width)))
    scale = min(scale, 3 * _MOST / width)  # however odd the spacing in a damaged header
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return size, (size[0], max(_LEAST, size[1]))


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """A picture's size, reduced to a pane of a sheet."""
    scale = min(1.0, _PANE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _painted(
    base: np.ndarray, mask: np.ndarray, palette: np.ndarray, size: tuple[int, int], opacity: float = _OPACITY
) -> np.ndarray:
    """A picture with the labels of a mask on it, translucent with an opaque outline."""
    rows = np.arange(size[1]) * mask.shape[0] // size[1]
    columns = np.arange(size[0]) * mask.shape[1] // size[0]
    large = mask[rows[:, None], columns]
    outline = np.zeros(large.shape, bool)
    for axis in (0, 1):
        for step in (-1, 1):
            neighbour = np.roll(large, step, axis)
            edge = [slice(None), slice(None)]
            edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
            neighbour[tuple(edge)] = large[tuple(edge)]  # the border of the picture is no outline
            outline |= large != neighbour
    covered = np.where(outline, 1.0, opacity) * (large > 0)
    paint = palette[large]
    return (base + (paint.astype(np.float64) - base) * covered[..., None]).round().astype(np.uint8)


def _side_by_side(panes: list[np.ndarray], canvas: tuple[int, int], captions: tuple[str, ...]) -> np.ndarray:
    """Pictures in a row on black, each with its caption above."""
    width, height = canvas
    whole = Image.new("RGB", (len(panes) * width + (len(panes) - 1) * _GAP, height + _CAPTION))
    draw = ImageDraw.Draw(whole)
    font = ImageFont.load_default(size=13)
    for index, (pane, caption) in enumerate(zip(panes, captions, strict=True)):
        left = index * (width + _GAP)
        draw.text((left + 4, 2), caption, fill=(220, 220, 220), font=font)
        whole.paste(Image.fromarray(pane), (left, _CAPTION + (height - pane.shape[0]) // 2))
    return np.asarray(whole)
