"""Codes of structures, mostly of SNOMED CT: what a segment is, in a form that programs understand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segment.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Code:
    """A code of a structure.

    Attributes:
        value: Such as ``10200004``.
        meaning: Such as ``Liver``.
        scheme: Coding scheme designator, such as ``SCT`` for SNOMED CT.
        lesion: Whether it is a lesion rather than anatomy.
        laterality: ``left``, ``right``, ``both``, or empty.
    """

    value: str
    meaning: str
    scheme: str = "SCT"
    lesion: bool = False
    laterality: str = ""


LATERALITIES = {
    "left": ("7771000", "Left"),
    "right": ("24028007", "Right"),
    "both": ("51440002", "Right and left"),
}
"""Laterality to its code of SNOMED CT and its meaning (PS3.16, CID 244)."""

_SIDES = {"left": "left", "lt": "left", "right": "right", "rt": "right", "both": "both", "bilateral": "both"}
_SYNONYMS = {
    "Tumour": "Neoplasm",
    "Tumor": "Neoplasm",
    "Cancer": "Neoplasm",
    "Oedema": "Edema",
    "Oesophagus": "Esophagus",
}


def code_of(name: str) -> Code:
    """The code of a structure by its name.

    Args:
        name: Such as ``left_kidney``. The most words at its end that DICOM's segmentation property types (PS3.16,
            CID 7151) know count: a liver tumour is a neoplasm.

    Returns:
        Its code; that of a tissue if no word is known.
    """
    from pydicom.sr.codedict import codes

    known, lesions = codes.cid7151, dir(codes.cid7159)
    words, side = re.findall(r"[A-Za-z0-9]+", name), laterality_of(name)
    words = words[:-1] if side and words[-1].lower() in _SIDES else words
    for start in range(len(words)):
        keyword = "".join(word[:1].upper() + word[1:].lower() for word in words[start:])
        for candidate in (keyword, keyword.removesuffix("s")):
            candidate = _SYNONYMS.get(candidate, candidate)
            if candidate in known.dir():
                found = getattr(known, candidate)
                return Code(found.value, found.meaning, found.scheme_designator, candidate in lesions, side)
    return Code(codes.SCT.Tissue.value, codes.SCT.Tissue.meaning, laterality=side)


def laterality_of(name: str) -> str:
    """``left``, ``right`` or ``both`` if a name says one, as ``left_kidney`` and ``kidney_right`` do; else empty."""
    sides = {_SIDES[word] for word in re.findall(r"[a-z]+", name.lower()) if word in _SIDES}
    return sides.pop() if len(sides) == 1 else ""


def require_structures(codes: Mapping[str, Any], where: str, names: Sequence[str]) -> None:
    """Refuse codes of structures that there are not.

    Args:
        codes: Name of a structure to its code.
        where: The key or file that they come from, for errors.
        names: Names of the structures.

    Raises:
        UserError: Naming the first that is none of them.
    """
    unknown = next((str(name) for name in codes if name not in names), None)
    if unknown is not None:
        hint = did_you_mean(unknown, names)
        raise UserError(f"{where}.{unknown}: there is no such structure.{hint} There are: {', '.join(names)}.")


def read_codes(codes: Any, where: str, names: Sequence[str] | None = None) -> dict[str, Code]:
    """Read codes from a configuration.

    Args:
        codes: Name of a structure to ``{value, meaning}``, and optionally ``scheme``, ``lesion`` and ``laterality``,
            which is that of the structure's name where neither it nor the meaning says one.
        where: The key or file that they come from, for errors.
        names: Names of the structures; None: any.

    Returns:
        Name to code.

    Raises:
        UserError: If an entry is not of this form, or not of one of the structures.
    """
    if not isinstance(codes, Mapping):
        raise UserError(f"{where}: must map names to codes, such as {{liver: {{value: 10200004, meaning: Liver}}}}.")
    found: dict[str, Code] = {}
    if names is not None:
        require_structures(codes, where, names)
    for name, entry in codes.items():
        try:
            given = {key: str(value) for key, value in entry.items() if key != "lesion"}
            found[str(name)] = Code(**given, lesion=entry.get("lesion") is True)
        except (TypeError, AttributeError):
            raise UserError(
                f"{where}.{name}: must be such as {{value: 10200004, meaning: Liver}}, with scheme (SCT), lesion "
                f"(false) and laterality (left, right or both) if need be, not {entry}."
            ) from None
        code = found[str(name)]
        if code.laterality not in ("", *LATERALITIES):
            raise UserError(f"{where}.{name}.laterality={code.laterality}: must be {', '.join(LATERALITIES)}.")
        if not code.laterality and not laterality_of(code.meaning):
            found[str(name)] = replace(code, laterality=laterality_of(str(name)))
        if not 0 < len(found[str(name)].value) <= 16 or not 0 < len(found[str(name)].meaning) <= 64:
            raise UserError(f"{where}.{name}: a code has at most 16 characters, and its meaning 64. Shorten it.")
    return found
