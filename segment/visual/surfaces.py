"""Surface meshes of a reference and a prediction, side by side in millimetres, for a 3D view."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from segment.arrays import nonzero_box
from segment.visual.pictures import colours

MOST_VERTICES = 60_000  # TensorBoard indexes mesh vertices with 16 bits
_MOST_BLOCKS = 1 << 22  # per mask, so that the surfaces of a large scan take only seconds
_GAP = 0.15  # between the two, relative to their width
_CAPTIONS = ("reference", "prediction")  # the viewer itself shows no text
_GREY = 110


@dataclass(frozen=True)
class Surfaces:
    """A triangle mesh with one colour per label.

    Attributes:
        vertices: (n, 3) float32 in mm, seen from the front of the patient: x to the patient's left, y superior, z
            anterior.
        faces: (m, 3) int32 vertex indices, counterclockwise seen from outside.
        colours: (n, 3) uint8; captions are grey.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


def side_by_side(
    reference: np.ndarray,
    prediction: np.ndarray,
    n_classes: int,
    spacing: tuple[float, ...],
    most: int = MOST_VERTICES,
) -> Surfaces | None:
    """Make the surfaces of all labels, the reference on the left and the prediction on the right.

    Masks are averaged over blocks of voxels, and the surface is where its label fills half of a block (marching cubes,
    Lorensen and Cline 1987, Lewiner's variant). Blocks start as single voxels and grow until the vertex limit holds.

    Args:
        reference: Class indices (z, y, x) in canonical axes.
        prediction: Class indices of the same shape.
        n_classes: Number of classes, background included; higher values are not drawn.
        spacing: Voxel size in mm in array order.
        most: Maximum number of vertices of both surfaces together, captions included.

    Returns:
        The surfaces; None if both masks are empty.
    """
    masks = reference, prediction
    voxels = max(math.prod(stop - start for start, stop in nonzero_box(mask[None])) for mask in masks)
    step = max(min(spacing), (math.prod(spacing) * voxels / _MOST_BLOCKS) ** (1 / 3))
    captions = [_caption(text) for text in _CAPTIONS]
    room = most - sum(len(caption.vertices) for caption in captions)
    while True:
        halves = [_pieces(mask, n_classes, spacing, step) for mask in masks]
        count = sum(len(piece.vertices) for half in halves for piece in half)
        if count <= room:
            break
        step *= max(1.1, math.sqrt(count / room))
    if not count:
        return None
    drawn = np.concatenate([piece.vertices for half in halves for piece in half])
    least, size = drawn.min(axis=0), np.ptp(drawn, axis=0)
    for number, (half, caption) in enumerate(zip(halves, captions, strict=True)):
        # Below its half, two thirds as wide.
        caption.vertices[:] = caption.vertices * (size[0] / 1.5) + least + size * (0.5, -0.15, 0.5)
        half.append(caption)
        for piece in half:
            piece.vertices[:, 0] += number * (1 + _GAP) * size[0]
    palette = colours(n_classes)
    palette[0] = _GREY
    return _joined([piece for half in halves for piece in half], palette)


@dataclass(frozen=True)
class _Piece:
    """The surface of one label, or of a caption if the label is 0."""

    label: int
    vertices: np.ndarray
    faces: np.ndarray


def _pieces(mask: np.ndarray, n_classes: int, spacing: tuple[float, ...], step: float) -> list[_Piece]:
    """The surface of every label that occurs, from blocks with sides of about `step` mm."""
    # Imported here because it takes half a second and only 3D scans need it.
    from skimage.measure import block_reduce, marching_cubes

    pieces = []
    for label, box in enumerate(ndimage.find_objects(mask, n_classes - 1), 1):
        if box is None:
            continue
        inside = mask[box] == label
        sides = tuple(min(n, max(1, round(step / mm))) for n, mm in zip(inside.shape, spacing, strict=True))
        share = np.pad(block_reduce(inside, sides, np.mean), 1).astype(np.float32)
        size = np.multiply(sides, spacing)
        # Labels that do not fill half of any block are drawn too.
        corners, faces, _, _ = marching_cubes(share, min(0.5, share.max() / 2), spacing=tuple(size))
        start = [part.start for part in box]
        z, y, x = (corners + np.multiply(start, spacing) - size / 2 - np.divide(spacing, 2)).T
        pieces.append(_Piece(label, np.stack([-x, z, y], 1).astype(np.float32), faces))
    return pieces


def _caption(text: str) -> _Piece:
    """Text as a thin plate about 1 wide, its top centre at the origin."""
    from skimage.measure import marching_cubes

    font = ImageFont.load_default(size=20)
    widest = max(math.ceil(font.getlength(caption)) for caption in _CAPTIONS)
    plate = Image.new("L", (widest, 26))
    ImageDraw.Draw(plate).text((widest / 2, 0), text, fill=255, font=font, anchor="ma")
    corners, faces, _, _ = marching_cubes(np.pad(np.asarray(plate, np.float32)[None] / 255, 1), 0.5)
    z, y, x = corners.T
    # Faces run clockwise in (z, y, x). The axes of the other pieces are mirrored, these are not.
    return _Piece(0, (np.stack([x - widest / 2, -y, z], 1) / widest).astype(np.float32), faces[:, ::-1])


def _joined(pieces: list[_Piece], palette: np.ndarray) -> Surfaces:
    """All surfaces as one mesh."""
    counts = [len(piece.vertices) for piece in pieces]
    first = np.cumsum([0, *counts[:-1]], dtype=np.int32)
    return Surfaces(
        vertices=np.concatenate([piece.vertices for piece in pieces]),
        faces=np.concatenate([piece.faces + start for piece, start in zip(pieces, first, strict=True)]).astype(
            np.int32
        ),
        colours=np.repeat(palette[[piece.label for piece in pieces]], counts, axis=0),
    )
