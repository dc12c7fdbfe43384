"""What each program can write besides boxes and outlines, and what none should."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from segment.errors import UserError
from segment.io.annotations import coco, cvat, labelme, yolo
from segment.io.annotations.raster import draw

SIZE = (20, 30)
FILE = Path("a.json")


def drawn(annotated):
    return draw(annotated.shapes, SIZE, {"a": 1})


def coco_content(**entry):
    size = {"width": SIZE[1], "height": SIZE[0]}
    return {
        "images": [{"id": 1, "file_name": "x.png", **size}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"image_id": 1, "category_id": 1, **entry}],
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("packed", [True, False])
def test_run_length_masks_equal_pycocotools(seed, packed):
    rng = np.random.default_rng(seed)
    bits = np.asfortranarray(rng.random(SIZE) < [0.5, 0.02, 0.98, 0.2, 0, 1][seed]).astype(np.uint8)
    code = coco_masks.encode(bits)
    if packed:
        code["counts"] = code["counts"].decode()
    else:
        flat = np.concatenate([[0], bits.ravel(order="F")])
        changes = np.flatnonzero(np.diff(flat))
        code["counts"] = np.diff([0, *changes, bits.size]).tolist()
    code["size"] = list(code["size"])
    (found,) = coco.parse(coco_content(segmentation=code), FILE).images
    np.testing.assert_array_equal(drawn(found), bits)


@pytest.mark.parametrize(
    "entry",
    [
        {"segmentation": {"size": [20, 30], "counts": "ä"}},
        {"segmentation": {"size": [20, 30], "counts": "~" * 99}},
        {"segmentation": {"size": [20, 30], "counts": [1.5]}},
        {"segmentation": {"size": [20, 30], "counts": [2**70]}},
        {"segmentation": {"size": [20], "counts": [600]}},
        {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
        {"segmentation": [[1, 2, 3, 4, 5, None]]},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, float("inf")]},
        {"category_id": 9, "bbox": [1, 2, 3, 4]},
        {"image_id": 9, "bbox": [1, 2, 3, 4]},
    ],
)
def test_impossible_objects_of_coco_are_refused(entry):
    with pytest.raises(UserError, match=r"^a\.json: "):
        coco.parse(coco_content(**entry), FILE)


def test_cvats_masks_ellipses_and_turned_boxes(tmp_path):
    file = tmp_path / "annotations.xml"
    shapes = (
        '<mask label="a" rle="1, 2, 3" left="4" top="5" width="3" height="2"/>'
        '<ellipse label="a" cx="20" cy="10" rx="2" ry="6" rotation="90"/>'
        '<box label="a" xtl="4" ytl="12" xbr="12" ybr="14" rotation="90"/><points label="a" points="1,1"/>'
    )
    file.write_text(f'<annotations><image name="x.png" width="30" height="20">{shapes}</image></annotations>')
    (found,) = cvat.read(file).images
    wanted = np.zeros(SIZE, np.uint8)
    wanted[5, 5:7] = 1
    rows, columns = np.mgrid[:20, :30] + 0.5
    wanted[((columns - 20) / 6) ** 2 + ((rows - 10) / 2) ** 2 < 1] = 1
    wanted[9:17, 7:9] = 1
    np.testing.assert_array_equal(drawn(found), wanted)
    assert found.left_out == ("Object 4 of 'a', of the kind points, has no area.",)


def labelme_content(**shape):
    return {"imagePath": "x.png", "shapes": [{"label": "a", **shape}]}


def test_labelmes_circles_and_masks():
    bits = np.random.default_rng(0).random((5, 7)) < 0.5
    stream = io.BytesIO()
    Image.fromarray(bits).save(stream, "PNG")
    mask = {"shape_type": "mask", "points": [[3, 4], [9, 8]], "mask": base64.b64encode(stream.getvalue()).decode()}
    (found,) = labelme.parse(labelme_content(**mask), FILE).images
    wanted = np.zeros(SIZE, np.uint8)
    wanted[4:9, 3:10] = bits
    np.testing.assert_array_equal(drawn(found), wanted)
    circle = {"shape_type": "circle", "points": [[10, 9], [13, 13]]}
    (found,) = labelme.parse(labelme_content(**circle), FILE).images
    rows, columns = np.mgrid[:20, :30] + 0.5
    np.testing.assert_array_equal(drawn(found), (rows - 9) ** 2 + (columns - 10) ** 2 < 25)


@pytest.mark.parametrize(
    "shape",
    [
        {"points": None},
        {"points": [[1, 2, 3]]},
        {"points": [["x", 2]]},
        {"shape_type": "circle", "points": [[1, 2]]},
        {"shape_type": "mask", "points": [[1, 2], [3, 4]], "mask": "no PNG"},
    ],
)
def test_impossible_objects_of_labelme_are_refused(shape):
    with pytest.raises(UserError, match=r"^a\.json: "):
        labelme.parse(labelme_content(**shape), FILE)


@pytest.mark.parametrize(
    ("text", "labels"),
    [("names: [x, y]\n", ["y"]), ("names: {0: x, 1: y}\n", ["y"]), ("nc: 3\nnames: [x]\n", ["class_1"])],
)
def test_yolos_classes_are_named(tmp_path, text, labels):
    (tmp_path / "data.yaml").write_text(text)
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n\n")
    (found,) = yolo.read(tmp_path / "a.txt", yolo.read_names(tmp_path / "data.yaml")).images
    assert ([shape.label for shape in found.shapes], found.relative) == (labels, True)


def test_yolos_fractions_become_pixels(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.5\n0 0.5 0.25 0 0.5\n")
    (found,) = yolo.read(tmp_path / "a.txt", ("cell",)).images
    assert [box[1:] for box in found.in_pixels(30, 20).boxes] == [(12, 5, 18, 15), (15, 0, 15, 10)]
    assert len(found.left_out) == 1


@pytest.mark.parametrize("line", ["0 1 2", "0 1 2 3 4 5", "x 1 2 3 4", "0.5 1 2 3 4", "-1 1 2 3 4", "0 nan 1 1 1"])
def test_lines_that_are_no_yolo_are_refused(tmp_path, line):
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(UserError, match=r"a\.txt: "):
        yolo.read(tmp_path / "a.txt")


def test_a_file_of_another_program_is_named(tmp_path):
    file = tmp_path / "a.xml"
    file.write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"a\.xml is not valid XML"):
        cvat.read(file)
    file.write_text("<svg/>")
    with pytest.raises(UserError, match=r"is not CVAT's XML: its first element is <svg>"):
        cvat.read(file)


def test_cvats_tracks_are_shapes_of_each_frame(tmp_path):
    """As "CVAT for video 1.1" writes them: interpolated frames are in the file, those outside are marked."""
    (tmp_path / "a.xml").write_text(
        """<annotations><version>1.1</version><meta><task><labels><label><name>a</name></label><label><name>b</name></label>
        </labels><original_size><width>30</width><height>20</height></original_size></task></meta>
        <track id="0" label="a"><box frame="0" outside="0" xtl="2" ytl="3" xbr="6" ybr="8"/>
        <box frame="1" outside="0" xtl="3" ytl="3" xbr="7" ybr="8"/>
        <box frame="2" outside="1" xtl="4" ytl="3" xbr="8" ybr="8"/>
        </track><track id="1" label="b"><polygon frame="1" outside="0" points="3,3;7,3;7,5;3,5" z_order="1"/></track>
        </annotations>"""
    )
    first, second = cvat.read(tmp_path / "a.xml").images
    assert [item.image for item in (first, second)] == ["frame_000000.PNG", "frame_000001.PNG"]
    assert first.size == (30, 20)
    expected = np.zeros(SIZE)
    expected[3:8, 2:6] = 1
    np.testing.assert_array_equal(draw(first.shapes, SIZE, {"a": 1, "b": 2}), expected)
    expected = np.zeros(SIZE)
    expected[3:8, 3:7] = 1
    expected[3:5, 3:7] = 2
    np.testing.assert_array_equal(draw(second.shapes, SIZE, {"a": 1, "b": 2}), expected)
