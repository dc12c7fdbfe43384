"""Text in pixels: read, found, blanked; and nothing found where there is none."""

import shutil
from pathlib import Path

import nilearn
import numpy as np
import pytest
import SimpleITK as sitk
from made_dicom import make_series
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread

from segment.data.check.privacy import judge_privacy
from segment.errors import UserError
from segment.privacy import burned_in
from segment.privacy.burned_in import find_text
from segment.privacy.files import copies, examine

needs_tesseract = pytest.mark.skipif(bool(burned_in.why_not()), reason=f"text {burned_in.why_not()}")
CAPTIONS = ("DOE JANE 25.03.1970", "ID 48151623 F 054Y", "St. Mary Hospital", "Acc: A20231107-12")
SIZE = 320


def slowly(value: str):
    return pytest.param(value, marks=pytest.mark.slow)


def slice_of_mr() -> np.ndarray:
    """The MNI template's axial slice, which nilearn carries."""
    file = Path(nilearn.__file__).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    plane = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[80][::-1]
    return np.asarray(Image.fromarray(plane.astype(np.uint8)).resize((SIZE, SIZE)))


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(60, 12, (SIZE, SIZE)).clip(0, 255).astype(np.uint8)


BACKGROUNDS = {"black": lambda: np.zeros((SIZE, SIZE), np.uint8), "noise": noise, "mr": slice_of_mr}


def captioned(background: np.ndarray, caption: str, size: int, value: int) -> np.ndarray:
    image = Image.fromarray(background)
    ImageDraw.Draw(image).text((8, 6), caption, fill=value, font=ImageFont.load_default(size))
    return np.asarray(image)


def errors(caption: str, read: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(read) + 1))
    for place, sign in enumerate(caption, 1):
        before, row[0] = row[0], place
        for column, other in enumerate(read, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (sign != other))
    return row[-1]


def rate(cases) -> float:
    """Share of characters read right, blanks left out."""
    wrong = total = 0
    for background, caption, size, value in cases:
        words = find_text(captioned(BACKGROUNDS[background](), caption, size, value))
        plain = caption.replace(" ", "")
        wrong += min(len(plain), errors(plain, "".join(word.text for word in words)))
        total += len(plain)
    return 1 - wrong / total


@needs_tesseract
def test_captions_are_read():
    assert rate([("mr", CAPTIONS[0], 16, 255)]) > 0.95


@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_tesseract
def test_more_than_95_percent_of_the_characters_of_made_captions_are_read(capsys):
    cases = [
        (background, CAPTIONS[(number + size) % 4], size, value)
        for number, background in enumerate(BACKGROUNDS)
        for size in (12, 14, 16, 20, 24, 32)
        for value in (255, 190)
    ]
    found = rate(cases)
    with capsys.disabled():
        print(f"\ncharacters of {len(cases)} captions read right: {100 * found:.1f} %")
    assert found > 0.95


@pytest.mark.slow
@needs_tesseract
@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("size", [12, 16, 32])
def test_blanked_captions_are_not_read_again(background, size):
    image = np.array(captioned(BACKGROUNDS[background](), CAPTIONS[1], size, 190))
    for word in find_text(image):
        top, bottom, left, right = word.box
        image[top:bottom, left:right] = image.min()
    assert find_text(image) == []


@needs_tesseract
@pytest.mark.parametrize("background", ["mr", slowly("noise")])
def test_images_without_text_have_none(background):
    assert find_text(BACKGROUNDS[background]()) == []


def write_dicom(folder: Path, pixels: np.ndarray, compress: bool) -> Path:
    def change(index, dataset):
        dataset.Modality, dataset.SeriesNumber = "US", 1
        dataset.BurnedInAnnotation = "YES"
        if compress:
            dataset.compress("1.2.840.10008.1.2.4.80")

    return make_series(folder, pixels[None].astype(np.int16), change=change)[0]


@needs_tesseract
@pytest.mark.parametrize("kind", ["png", "dicom", slowly("palette.png"), slowly("packed dicom")])
def test_text_is_found_and_blanked_and_all_else_is_as_before(tmp_path, kind):
    plain = slice_of_mr()
    marked = captioned(plain, CAPTIONS[0], 20, 255)
    source = tmp_path / "in"
    source.mkdir()
    if "png" in kind:
        path, image = source / "scan.png", Image.fromarray(marked)
        if kind == "palette.png":
            image.putpalette([level for value in range(256) for level in (value, value // 2, value)])
        image.save(path)
    else:
        path = write_dicom(source, marked, kind == "packed dicom")
    before = path.read_bytes()
    assert ("its pixels", "burned-in text") in {(item.field, item.kind) for item in examine(source)}
    said = " ".join(map(str, judge_privacy(source, None)))
    assert "burned-in text in its pixels" in said
    assert "1970" not in said.replace(str(tmp_path), "")
    for copy in copies(source, tmp_path / "out")[0]:
        copy.write()
    (copy,) = (file for file in (tmp_path / "out").rglob("*") if file.is_file())
    pixels = np.asarray(Image.open(copy)) if "png" in kind else dcmread(copy).pixel_array
    assert find_text(pixels) == []
    changed = pixels != marked
    assert changed.any()
    assert not changed[50:].any()
    assert not pixels[marked != plain][marked[marked != plain] == 255].any()
    assert path.read_bytes() == before
    if "dicom" in kind:
        written = dcmread(copy)
        assert written.BurnedInAnnotation == "NO"
        assert [item.CodeValue for item in written.DeidentificationMethodCodeSequence] == ["113100", "113101"]


@needs_tesseract
def test_formats_in_which_text_cannot_be_blanked_are_named(tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(captioned(slice_of_mr(), CAPTIONS[0], 20, 255)).save(tmp_path / "in" / "scan.jpg", quality=95)
    with pytest.raises(UserError, match=r"scan\.jpg: has text in its pixels, which is blanked in PNG and DICOM alone"):
        copies(tmp_path / "in", tmp_path / "out")[0][0].write()
    assert not list((tmp_path / "out").rglob("*.jpg"))


def test_without_tesseract_it_is_said_that_text_is_not_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    Image.fromarray(captioned(noise(), CAPTIONS[0], 20, 255)).save(tmp_path / "scan.png")
    (problem,) = judge_privacy(tmp_path, None)
    assert "Text in pixels is not looked for: it needs the program tesseract" in str(problem)
