"""Two objects on small images, as every program that annotates writes them: a cell in a dish."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 24, 16
DISH, CELL = (2, 2, 20, 14), (6, 4, 12, 10)  # left, top, right, bottom


def put_images(folder: Path, *names: str) -> None:
    """Write grey images of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        noise = np.random.default_rng(place).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.png")


def voc(boxes: list[tuple[str, tuple[int, ...]]], width: int = WIDTH) -> str:
    """LabelImg's XML."""
    objects = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for label, (x0, y0, x1, y1) in boxes
    )
    return f"<annotation><size><width>{width}</width><height>{HEIGHT}</height></size>{objects}</annotation>"


def write_voc(root: Path, *names: str, boxes: tuple = (("dish", DISH), ("cell", CELL))) -> None:
    """``Annotations/`` beside ``JPEGImages/``."""
    put_images(root / "JPEGImages", *names)
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / "Annotations" / f"{name}.xml").write_text(voc(list(boxes)))


def write_yolo(root: Path, *names: str) -> None:
    """``labels/*.txt`` beside ``images/``, the second object as an outline."""
    put_images(root / "images", *names)
    (root / "labels").mkdir()
    x0, y0, x1, y1 = DISH
    box = [(x0 + x1) / 2 / WIDTH, (y0 + y1) / 2 / HEIGHT, (x1 - x0) / WIDTH, (y1 - y0) / HEIGHT]
    outline = [value for x, y in outline_of(CELL) for value in (x / WIDTH, y / HEIGHT)]
    for name in names:
        lines = [" ".join(map(str, (0, *box))), " ".join(map(str, (1, *outline)))]
        (root / "labels" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "labels" / "classes.txt").write_text("dish\ncell\n")


def write_labelme(root: Path, *names: str) -> None:
    """A JSON beside each image."""
    put_images(root, *names)
    shapes = [
        {"label": "dish", "shape_type": "rectangle", "points": [list(DISH[2:]), list(DISH[:2])]},
        {"label": "cell", "shape_type": "polygon", "points": outline_of(CELL)},
        {"label": "cell", "shape_type": "point", "points": [[1, 1]]},
    ]
    for name in names:
        content = {"imagePath": f"..\\{name}.png", "imageWidth": WIDTH, "imageHeight": HEIGHT, "shapes": shapes}
        (root / f"{name}.json").write_text(json.dumps(content))


def write_coco(root: Path, *names: str, categories: dict[int, str] | None = None) -> None:
    """``annotations/instances.json`` beside ``images/``."""
    put_images(root / "images", *names)
    numbers = {name: number for number, name in (categories or {1: "dish", 2: "cell"}).items()}
    x0, y0, x1, y1 = DISH
    objects = [
        {"category_id": numbers["dish"], "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": []},
        {"category_id": numbers["cell"], "segmentation": [[value for point in outline_of(CELL) for value in point]]},
    ]
    content = {
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "images": [
            {"id": place, "file_name": f"images/{name}.png", "width": WIDTH, "height": HEIGHT}
            for place, name in enumerate(names, 5)
        ],
        "annotations": [{"image_id": place, **entry} for place in range(5, 5 + len(names)) for entry in objects],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances.json").write_text(json.dumps(content))


def write_cvat(root: Path, *names: str) -> None:
    """``annotations.xml`` beside ``images/``; the cell comes first, but lies above."""
    put_images(root / "images", *names)
    points = ";".join(f"{x},{y}" for x, y in outline_of(CELL))
    x0, y0, x1, y1 = DISH
    shapes = (
        f'<polygon label="cell" points="{points}" z_order="1"/>'
        f'<box label="dish" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}" z_order="0"/><tag label="cell"/>'
    )
    images = "".join(f'<image name="{name}.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>' for name in names)
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("dish", "cell"))
    (root / "annotations.xml").write_text(
        f"<annotations><meta><task><labels>{labels}</labels></task></meta>{images}</annotations>"
    )


def outline_of(box: tuple[int, int, int, int]) -> list[list[int]]:
    """The corners of a box."""
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


WRITERS = {"voc": write_voc, "yolo": write_yolo, "labelme": write_labelme, "coco": write_coco, "cvat": write_cvat}
