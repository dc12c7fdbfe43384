"""Pictures of one scan: image, reference and prediction side by side or in three planes, as plain RGB arrays.

Convention (radiological): the patient's left is on the right of axial and coronal slices, anterior is up in axial
slices and on the left of sagittal ones, superior is up in coronal and sagittal ones.
2D images keep the orientation of their file.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segment.arrays import nonzero_box
from segment.visual.overlays import contours, errors, lettered, painted

# Okabe and Ito's palette, distinguishable with every kind of colour vision (https://jfly.uni-koeln.de/color/), without
# black; orange and blue first, the pair with the highest contrast on grey.
_OKABE_ITO = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
_LEAST, _MOST = 256, 640  # minimum height and maximum side length of a picture, in pixels
_GAP, _CAPTION = 6, 20
_PANE = 224  # longest side of a picture in a contact sheet, in pixels
_PLANE = 300  # longest side of a slice among the three planes, in pixels
_MARGIN = 8  # minimum margin around the structures, in voxels


def colours(n_classes: int) -> np.ndarray:
    """Colours of the classes; they repeat after seven labels.

    Args:
        n_classes: Number of classes, background included.

    Returns:
        uint8 ``(n_classes, 3)``; the background, which is never drawn, is black.
    """
    palette = np.zeros((n_classes, 3), np.uint8)
    for index in range(1, n_classes):
        palette[index] = _OKABE_ITO[(index - 1) % len(_OKABE_ITO)]
    return palette


def panel(
    image: np.ndarray, reference: np.ndarray, prediction: np.ndarray, n_classes: int, spacing: tuple[float, ...]
) -> np.ndarray:
    """Draw image, reference and prediction of one slice side by side.

    The slice is the one with most reference voxels, else most predicted voxels, else the middle one. The grey scale
    covers the 0.5th to 99.5th percentile of the slice. Labels are drawn translucent with an opaque outline.

    Args:
        image: ``(C, z, y, x)`` or ``(C, y, x)``, any numbers, in canonical axes (z inferior to superior, y posterior to
            anterior, x left to right). The first channel is shown; a 2D image with three channels is shown in colour.
        reference: Class indices ``(z, y, x)`` or ``(y, x)``.
        prediction: Class indices of the same shape.
        n_classes: Number of classes, background included.
        spacing: Voxel size of the spatial axes in array order, any unit; sets the aspect ratio.

    Returns:
        uint8 ``(H, W, 3)``; each picture is at least 256 pixels high and has a caption above.

    Raises:
        ValueError: The shapes of the three arrays do not match.
    """
    _require_one_grid(image, reference, prediction, spacing)
    shown = image if image.ndim == 3 else image[:1]
    if reference.ndim == 3:
        index = fullest_slices(reference, prediction)[0]
        # Rows run posterior to anterior and columns left to right: both are flipped for the radiological view.
        shown, reference, prediction = (part[..., index, ::-1, ::-1] for part in (shown, reference, prediction))
    grey = _window(_visible_channels(shown), _limits(_visible_channels(shown)))
    size, canvas = _sizes(reference.shape, (spacing[-2], spacing[-1]))
    base = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))
    masks = [_resized(mask, size) for mask in (reference, prediction)]
    panes = [base, *(painted(base, mask, colours(n_classes)) for mask in masks)]
    return _side_by_side(panes, canvas, ("image", "reference", "prediction"))


def planes(
    image: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    n_classes: int,
    spacing: tuple[float, ...],
    letters: bool = True,
) -> dict[str, np.ndarray]:
    """Draw a scan in three planes: axial, coronal and sagittal slice, stacked vertically.

    In each plane, the slice is the one with most reference voxels, else most predicted voxels, else the middle one.

    Args:
        image: As for `panel`.
        reference: Class indices ``(z, y, x)`` or ``(y, x)``.
        prediction: Class indices of the same shape.
        n_classes: Number of classes, background included.
        spacing: Voxel size of the spatial axes in array order, any unit.
        letters: Write the directions of the body at the edges of the images of a 3D scan.

    Returns:
        Pictures uint8 ``(H, W, 3)`` of equal size: ``image``; ``reference`` and ``prediction``, translucent on the
        image with an opaque outline; ``contours`` of both, the reference solid and the prediction dashed; ``errors``,
        see `segment.visual.overlays.errors`. The grey scale covers the 0.5th to 99.5th percentile of the slices. For a
        2D image, each picture shows its only slice.

    Raises:
        ValueError: The shapes of the three arrays do not match.
    """
    _require_one_grid(image, reference, prediction, spacing)
    palette = colours(n_classes)
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("image", "reference", "prediction", "contours", "errors")
    }
    centre = fullest_slices(reference, prediction)
    sides = _plane_sizes(reference.shape, spacing)
    grey = [_visible_channels(_plane(image, axis, centre)) for axis in range(len(sides))]
    window = _limits(np.concatenate([values.ravel() for values in grey]))
    for axis, size in enumerate(sides):
        base = np.asarray(Image.fromarray(_window(grey[axis], window)).resize(size, Image.Resampling.BICUBIC))
        masks = [_resized(_plane(mask, axis, centre), size) for mask in (reference, prediction)]
        columns["image"].append(lettered(base, axis) if letters and reference.ndim == 3 else base)
        columns["reference"].append(painted(base, masks[0], palette))
        columns["prediction"].append(painted(base, masks[1], palette))
        columns["contours"].append(contours(base, masks[0], masks[1], palette))
        columns["errors"].append(errors(base, masks[0], masks[1]))
    return {name: _stacked(slices) for name, slices in columns.items()}


def contour_row(
    image: np.ndarray,
    reference: np.ndarray,
    predictions: Sequence[np.ndarray],
    n_classes: int,
    spacing: tuple[float, ...],
    letters: bool = True,
) -> list[np.ndarray]:
    """Draw one axial slice of a scan, next to it the contours of the reference and of several predictions.

    The slice is the one on which the predictions differ most, of those that show a structure of the reference; else the
    one with most reference voxels. It is cropped to the structures with a margin.

    Args:
        image: As for `panel`.
        reference: Class indices ``(z, y, x)`` or ``(y, x)``.
        predictions: Class indices of the same shape, at least one.
        n_classes: Number of classes, background included.
        spacing: Voxel size of the spatial axes in array order, any unit.
        letters: Write the directions of the body at the edges of the image of a 3D scan.

    Returns:
        Pictures uint8 ``(H, W, 3)`` of equal size, the longer side 300 pixels: the image, with letters at its edges if
        the scan is 3D; the reference as a solid line; then for each prediction the contours as in `planes`, and its
        errors. The grey scale covers the 0.5th to 99.5th percentile of the visible region.

    Raises:
        ValueError: The shapes of the arrays do not match.
    """
    for prediction in predictions:
        _require_one_grid(image, reference, prediction, spacing)
    disagreement = np.asarray(np.stack([prediction != predictions[0] for prediction in predictions]).any(axis=0))
    if reference.ndim == 3:
        structured = disagreement & np.asarray(reference.any(axis=(1, 2)))[:, None, None]
        disagreement = structured if structured.any() else disagreement
    centre = fullest_slices(disagreement, reference)
    image, *masks = (_plane(array, 0, centre) for array in (image, reference, *predictions))
    around = tuple(
        slice(max(0, low - (high - low) // 2 - _MARGIN), high + (high - low) // 2 + _MARGIN)
        for low, high in nonzero_box(np.stack(masks))
    )
    shown, masks = _visible_channels(image[(slice(None), *around)]), [mask[around] for mask in masks]
    size = _plane_sizes(masks[0].shape, spacing[-2:])[0]
    grey = _window(shown, _limits(shown))
    base = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))
    large = [_resized(mask, size) for mask in masks]
    palette = colours(n_classes)
    drawn = [lettered(base, 0) if letters and len(spacing) == 3 else base, contours(base, large[0], large[0], palette)]
    for mask in large[1:]:
        drawn += [contours(base, large[0], mask, palette), errors(base, large[0], mask)]
    return drawn


def fullest_slices(reference: np.ndarray, prediction: np.ndarray) -> tuple[int, ...]:
    """The slice along each axis with most foreground in the reference, else in the prediction, else the middle one.

    Args:
        reference: Class indices, 2D or 3D.
        prediction: Class indices of the same shape.

    Returns:
        One index per axis.
    """
    for mask in (reference, prediction):
        found = mask != 0
        if found.any():
            axes = range(mask.ndim)
            return tuple(int(found.sum(axis=tuple(a for a in axes if a != axis)).argmax()) for axis in axes)
    return tuple(length // 2 for length in reference.shape)


def sheet(
    rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    captions: Sequence[Sequence[Sequence[str]]],
    spacing: tuple[float, float],
) -> np.ndarray:
    """Draw slices in rows, with the outlines of their labels and captions below.

    The grey scale of a row covers the 0.5th to 99.5th percentile of its first slice, so that changes are visible.

    Args:
        rows: Slices of each row as image ``(C, y, x)`` and class indices ``(y, x)``, all of the same shape; the first
            channel is shown, or three in colour. Class 255 (unannotated) is outlined in white.
        captions: The caption lines of each slice.
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
        window = _limits(_visible_channels(row[0][0]))
        for column, ((image, mask), words) in enumerate(zip(row, words_of_row, strict=True)):
            grey = Image.fromarray(_window(_visible_channels(image), window)).resize(size, Image.Resampling.BICUBIC)
            left = column * (canvas[0] + _GAP)
            whole.paste(
                Image.fromarray(painted(np.asarray(grey), _resized(mask, size), paints, opacity=0)), (left, top)
            )
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
    Image.fromarray(array).save(buffer, format="png")
    return buffer.getvalue()


def _require_one_grid(
    image: np.ndarray, reference: np.ndarray, prediction: np.ndarray, spacing: tuple[float, ...]
) -> None:
    """Raise an error if the shapes do not match."""
    if not image.shape[1:] == reference.shape == prediction.shape or len(spacing) != reference.ndim:
        raise ValueError(
            f"shapes do not match: image {image.shape}, masks {reference.shape} and {prediction.shape}, "
            f"{len(spacing)} spacings"
        )


def _plane(array: np.ndarray, axis: int, centre: tuple[int, ...]) -> np.ndarray:
    """The slice across one spatial axis (z, y, x), flipped for the radiological view; 2D arrays are unchanged."""
    if len(centre) == 2:
        return array
    # Rows run from inferior or posterior and columns from left or posterior: all are flipped.
    return np.take(array, centre[axis], axis=axis - 3)[..., ::-1, ::-1]


def _plane_sizes(shape: tuple[int, ...], spacing: tuple[float, ...]) -> list[tuple[int, int]]:
    """Width and height of the slices across each axis, at a common scale, in pixels."""
    sides = [length * size for length, size in zip(shape, spacing, strict=True)]
    pixels = [max(1, round(side / max(sides) * _PLANE)) for side in sides]
    if len(pixels) == 2:
        return [(pixels[1], pixels[0])]
    return [(pixels[2], pixels[1]), (pixels[2], pixels[0]), (pixels[1], pixels[0])]


def _stacked(slices: list[np.ndarray]) -> np.ndarray:
    """Pictures stacked vertically and centred, on black."""
    width = max(part.shape[1] for part in slices)
    whole = np.zeros((sum(part.shape[0] for part in slices) + _GAP * (len(slices) - 1), width, 3), np.uint8)
    top = 0
    for part in slices:
        left = (width - part.shape[1]) // 2
        whole[top : top + part.shape[0], left : left + part.shape[1]] = part
        top += part.shape[0] + _GAP
    return whole


def _visible_channels(image: np.ndarray) -> np.ndarray:
    """The visible channels of a slice (C, y, x): three in colour, else the first, as (y, x, 3 or 1)."""
    return np.nan_to_num(np.moveaxis(image if len(image) == 3 else image[:1], 0, -1).astype(np.float64))


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The values drawn black and white: the 0.5th and 99.5th percentile."""
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:  # a small bright structure on a constant background is beyond both percentiles
        low, high = values.min(), values.max()
    return float(low), float(high)


def _window(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Grey or colour values (y, x, 1 or 3) as uint8 RGB, from one limit to the other."""
    low, high = limits
    scaled = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return np.repeat((scaled * 255).round().astype(np.uint8), 3 // values.shape[-1], axis=-1)


def _sizes(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of a picture and of its canvas, as (width, height) in pixels."""
    height, width = float(shape[0]), shape[1] * spacing[1] / spacing[0]
    scale = max(_LEAST / height, min(1.0, _MOST / max(height, width)))
    scale = min(scale, 3 * _MOST / width)  # guards against extreme spacings in damaged headers
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return size, (size[0], max(_LEAST, size[1]))


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """The size of a picture, reduced to fit a contact sheet."""
    scale = min(1.0, _PANE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask resized to (width, height) by nearest neighbour."""
    rows = np.arange(size[1]) * mask.shape[0] // size[1]
    columns = np.arange(size[0]) * mask.shape[1] // size[0]
    return mask[rows[:, None], columns]


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
