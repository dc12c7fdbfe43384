"""Random changes of files: of their bytes, and of the values that they hold, so that the file stays well-formed."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import yaml

SECRET = "SECRET"
"""Stands for the path of a file outside, which no mutation may have read."""
FOUR = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x40")  # as numbers: -1, largest, 0, huge
NUMBERS = (-1, 0, 1, 2**31, 2**63, 2**70, -(2**31), 1e308, 1e-320, float("nan"), float("inf"), -0.0, 0.1, 10**400)
TEXTS = (
    "", " ", "²", "٣", "--5", "9" * 6000, "x" * 5000, "../../../etc/passwd", SECRET, "a\nb", "a\0b", "\x1b[2J",
    "\ud800", "=HYPERLINK(1)", "<script>", "${oc.env:HOME}", "!!python/object/apply:os.getcwd []", "nan", "1e999",
    "None", "os.system", "segment.networks.unet.UNet", "~", "con", ".", "//x/y", "%s%n", "null", "true", "[", "{}",
)  # fmt: skip
OTHERS = (None, True, False, [], {}, [[]], [None], {"a": None}, [0] * 1000, {"": ""})


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """Between one and four changes, half of them in the first bytes."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if not changed:
            break
        place = rng.randrange(min(len(changed), rng.choice([64, 512, len(changed)])))
        kind = rng.random()
        if kind < 0.5:
            changed[place] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind < 0.8:
            changed[place : place + 4] = rng.choice(FOUR)
        elif kind < 0.9:
            changed[place:place] = changed[place : place + rng.randrange(1, 99)]
        else:
            del changed[place + 1 :]
    return bytes(changed)


def hostile(rng: random.Random) -> Any:
    """A value that a careful program does not expect."""
    return copy.deepcopy(rng.choice(rng.choice([NUMBERS, TEXTS, OTHERS])))


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a tree of plain values, with each of its keys."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from _places(value)


def of_tree(content: Any, rng: random.Random) -> Any:
    """One to three values of a tree replaced, left out, renamed, wrapped or exchanged."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice([1, 1, 2, 3])):
        places = list(_places(content))
        if not places:
            return hostile(rng)
        node, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.6:
            node[key] = hostile(rng)
        elif kind < 0.7:
            del node[key]
        elif kind < 0.8:
            node[key] = [node[key]] if rng.random() < 0.5 else {"a": node[key]}
        elif kind < 0.9:
            other, place = rng.choice(places)
            node[key] = copy.deepcopy(other[place])
        elif isinstance(node, dict):
            node[str(hostile(rng))] = node.pop(key)
        else:
            node.append(node[key])
    return content


def _as_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def of_json(content: bytes, rng: random.Random) -> bytes:
    """Values of a JSON file."""
    return _as_text(json.dumps(of_tree(json.loads(content), rng)))


def of_yaml(content: bytes, rng: random.Random) -> bytes:
    """Values of a YAML file."""
    changed = yaml.safe_dump(of_tree(yaml.safe_load(content), rng), allow_unicode=rng.random() < 0.5)
    # The dumper quotes what would be a tag; a stranger's file does not.
    return _as_text(re.sub(r"'(!!python[^']*)'", r"\1", changed))


def of_csv(content: bytes, rng: random.Random) -> bytes:
    """Cells of a table."""
    rows: Any = of_tree(list(csv.reader(io.StringIO(content.decode()))), rng)
    stream = io.StringIO()
    for row in rows if isinstance(rows, list) else [[rows]]:
        csv.writer(stream).writerow(row if isinstance(row, list) else [row])
    return _as_text(stream.getvalue())


def of_words(content: bytes, rng: random.Random) -> bytes:
    """Words of a text, such as an XML file or the header of an image, replaced by hostile ones."""
    words = [found for found in re.finditer(rb"[^\s<>\"=:,]+", content[:4000]) if len(found[0]) < 200]
    for found in sorted(rng.sample(words, min(len(words), rng.choice([1, 1, 2]))), key=lambda found: -found.start()):
        content = content[: found.start()] + _as_text(str(hostile(rng))) + content[found.end() :]
    return content


def of_numbers(content: bytes, rng: random.Random, header: int = 352) -> bytes:
    """Numbers of a binary header, aligned, replaced by extreme ones."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3])):
        code = rng.choice(["<h", ">h", "<i", ">i", "<f", ">f", "<q", "<d"])
        size = struct.calcsize(code)
        place = rng.randrange(max(1, min(len(changed), header) // size)) * size
        low = -(2 ** (8 * size - 1))
        value: Any = rng.choice([0, 1, -1, 2, 3, 4, 7, 100, 1000, low, -low - 1])
        if code[1] in "fd":
            value = rng.choice([0.0, -1.0, float("nan"), float("inf"), 1e-38, 3e38, 1e10])
        changed[place : place + size] = struct.pack(code, value)
    return bytes(changed)


def of_png(content: bytes, rng: random.Random) -> bytes:
    """Contents of a PNG's chunks, with the right checksums."""
    parts, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        parts.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += length + 12
    chosen = rng.randrange(len(parts))
    kind, data = parts[chosen]
    parts[chosen] = (kind, of_bytes(data, rng)) if rng.random() < 0.8 else (rng.choice(parts)[0], data)
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return content[:8] + b"".join(chunks)


def inside_gzip(change: Callable[[bytes, random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    """The change made to what is compressed, whose checksum is then right."""
    return lambda content, rng: gzip.compress(change(gzip.decompress(content), rng), 1)


def inside_zip(change: Callable[[bytes, random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    """The change made to each file in an archive, some of which get other names."""

    def changed(content: bytes, rng: random.Random) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(stream, "w") as target:
            for name in source.namelist():
                target.writestr(name if rng.random() < 0.9 else "../x.npy", change(source.read(name), rng))
        return stream.getvalue()

    return changed
