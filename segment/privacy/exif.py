"""What Exif data of photographs tell, and Exif data that tell the orientation alone."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import ExifTags, Image

from segment.privacy.values import Field

_ORIENTATION = 0x0112
# Of the camera and its settings, whoever it photographed.
_TECHNICAL_KEYS = """
    Make Model Software LensMake LensModel ExifVersion FlashPixVersion ComponentsConfiguration SceneType FileSource
    CFAPattern InteropIndex InteropVersion ExifOffset GPSInfo
"""
_TECHNICAL = frozenset(_TECHNICAL_KEYS.split())
PREFIX = b"Exif\0\0"


def find(content: bytes) -> Iterator[Field]:
    """Read the texts and the position in Exif data.

    Args:
        content: As in a JPEG's segment or a PNG's chunk; untrusted.

    Yields:
        Field and value.
    """
    exif = Image.Exif()
    exif.load(content if content.startswith(PREFIX) else PREFIX + content)
    for values in (dict(exif), exif.get_ifd(ExifTags.IFD.Exif)):
        for tag, value in values.items():
            name = ExifTags.TAGS.get(tag, f"tag {tag}")
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if isinstance(text, str) and text.strip(" \0") and name not in _TECHNICAL:
                yield f"Exif {name}", text.strip(" \0")
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    if place:
        yield "Exif GPS", " ".join(map(str, place.values()))
    if exif.get_ifd(ExifTags.IFD.IFD1):
        yield "Exif thumbnail", ""


def orientation_alone(content: bytes) -> bytes:
    """Exif data with nothing but the orientation; empty if they have none.

    Args:
        content: As for `find`.
    """
    exif = Image.Exif()
    exif.load(content if content.startswith(PREFIX) else PREFIX + content)
    value = exif.get(_ORIENTATION)
    if value is None:
        return b""
    kept = Image.Exif()
    kept[_ORIENTATION] = value
    return kept.tobytes()
