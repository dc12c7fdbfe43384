"""What supervision reads of made annotations, recorded for `tests/io/annotations/test_supervision.py`.

In an environment of its own, `pip install supervision==0.31.2`; then
`PYTHONPATH=tests/support python tests/support/supervision_values.py > tests/fixtures/supervision.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from annotated_sets import put_images, voc

NAMES, WIDTH, HEIGHT = ("blob", "box"), 24, 16
PROGRAMS = ("voc", "yolo", "coco")


def objects(seed: int) -> tuple[list[list[float]], list[int]]:
    """A polygon of five corners and a box of unequal sides."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 5))
    corners = [[round(12 + 9 * np.cos(angle), 2), round(8 + 6 * np.sin(angle), 2)] for angle in angles.tolist()]
    left, top = (int(value) for value in rng.integers(1, 8, 2))
    return corners, [left, top, left + 7 + seed, top + 4 + seed]


def write_set(root: Path, program: str) -> None:
    """Three images with the two objects, as a program writes them; Pascal VOC knows boxes alone."""
    names = [f"i{seed}" for seed in range(3)]
    put_images(root / ("JPEGImages" if program == "voc" else "images"), *names)
    made = [objects(seed) for seed in range(3)]
    if program == "voc":
        (root / "Annotations").mkdir()
        for name, (_, box) in zip(names, made, strict=True):
            (root / "Annotations" / f"{name}.xml").write_text(
                voc([("box", tuple(box))]).replace("<annotation>", f"<annotation><filename>{name}.png</filename>")
            )
    elif program == "yolo":
        (root / "labels").mkdir()
        (root / "data.yaml").write_text(f"nc: 2\nnames: {list(NAMES)}\n")
        for name, (corners, box) in zip(names, made, strict=True):
            points = [corners, [[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]]]
            lines = (
                " ".join(map(str, (kind, *(v for x, y in outline for v in (x / WIDTH, y / HEIGHT)))))
                for kind, outline in enumerate(points)
            )
            (root / "labels" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    else:
        entries: list[dict[str, Any]] = []
        for image, (corners, (x0, y0, x1, y1)) in enumerate(made, 1):
            xs, ys = zip(*corners, strict=True)
            around = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
            outline = [value for point in corners for value in point]
            square = [x0, y0, x1, y0, x1, y1, x0, y1]
            pairs = ((1, around, outline), (2, [x0, y0, x1 - x0, y1 - y0], square))
            entries += [
                {"image_id": image, "category_id": kind, "bbox": bounds, "segmentation": [points], "iscrowd": 0}
                | {"id": len(entries) + kind, "area": bounds[2] * bounds[3]}
                for kind, bounds, points in pairs
            ]
        content = {
            "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)],
            "images": [
                {"id": number, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
                for number, name in enumerate(names, 1)
            ],
            "annotations": entries,
        }
        (root / "annotations").mkdir()
        (root / "annotations" / "instances.json").write_text(json.dumps(content))


def _values() -> dict[str, Any]:
    import supervision as sv

    found: dict[str, Any] = {"supervision": sv.__version__}
    for program in PROGRAMS:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_set(root, program)
            images = str(root / ("JPEGImages" if program == "voc" else "images"))
            if program == "voc":
                read = sv.DetectionDataset.from_pascal_voc(images, str(root / "Annotations"))
            elif program == "yolo":
                labels, table = str(root / "labels"), str(root / "data.yaml")
                read = sv.DetectionDataset.from_yolo(images, labels, table, force_masks=True)
            else:
                read = sv.DetectionDataset.from_coco(
                    images, str(root / "annotations" / "instances.json"), force_masks=True
                )
            found[program] = {
                Path(path).stem: [
                    {
                        "name": read.classes[int(entry.class_id[index])],
                        "box": [round(float(value), 3) for value in entry.xyxy[index]],
                        "mask": None if entry.mask is None else np.flatnonzero(entry.mask[index]).tolist(),
                    }
                    for index in range(len(entry))
                ]
                for path, entry in sorted(read.annotations.items())
            }
    return found


if __name__ == "__main__":
    json.dump(_values(), sys.stdout)
    sys.stdout.write("\n")
