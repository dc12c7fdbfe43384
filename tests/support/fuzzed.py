"""What the fuzzer changes: a sound file of every format and description, and everything that reads it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import annotated_sets
import h5py
import mutations as change
import nibabel as nib
import numpy as np
import SimpleITK as sitk
import tifffile
from made_annotations import phantom, written
from made_dicom import make_series, voxels
from PIL import Image
from saved_models import save

from segment.data.check.dataset import check_dataset
from segment.data.label_files import named_values
from segment.data.layouts import open_dataset
from segment.data.splits import folds
from segment.errors import UserError
from segment.inference.model import load_model
from segment.io.annotations.find import find_annotations
from segment.io.annotations.raster import draw
from segment.io.dicom.annotations import structure_masks
from segment.io.dicom.series import contents
from segment.io.images import read_image, read_label
from segment.preprocessing.plan_file import read_plan
from segment.privacy.files import findings_in
from segment.report.run_page import write_page
from segment.runs.folder import read_run
from segment.runs.health import failure
from segment.runs.settings import check_folder, written_plan
from segment.runs.summary import text_table

Change = Callable[[bytes, random.Random], bytes]
OLD = Path(__file__).parents[1] / "fixtures" / "runs_of_november_2026"
VOLUME = np.random.default_rng(0).integers(0, 9, (4, 5, 6)).astype(np.uint8)
FLAT = np.random.default_rng(1).integers(0, 9, (20, 30)).astype(np.uint8)


@dataclass(frozen=True)
class Subject:
    """One kind of file.

    Attributes:
        make: Writes it with what belongs to it into an empty folder and returns it.
        read: Functions that read it, each of which returns or raises UserError, and may return voxels.
        changes: How its values are changed.
        costly: Whether reading takes more than a few milliseconds.
    """

    make: Callable[[Path], Path]
    read: tuple[Callable[[Path], Any], ...]
    changes: tuple[Change, ...]
    costly: bool = False


def _file(name: str, write: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return make


def _image(name: str, write: Callable[[Path], object], *changes: Change) -> Subject:
    return Subject(_file(name, write), (read_image, read_label, findings_in), changes)


def _nifti(path: Path) -> None:
    nib.save(nib.Nifti1Image(VOLUME.T, np.diag([1.0, 2.0, 3.0, 1.0])), path)


def _mgh(path: Path) -> None:
    nib.save(nib.MGHImage(VOLUME.T, np.eye(4)), path)


def _ome(path: Path) -> None:
    tifffile.imwrite(path, VOLUME, ome=True, metadata={"axes": "ZYX"})


def _tiles(path: Path) -> None:
    tifffile.imwrite(path, FLAT, compression="zlib", tile=(16, 16))


def _itk(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(path), True)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=VOLUME, compression="gzip")
        file.create_dataset("label", data=VOLUME, chunks=(2, 2, 2))


def _series(folder: Path) -> Path:
    return make_series(folder, voxels((4, 8, 9)))[1]


def _annotation(kind: str, folder: Path) -> Path:
    return written(folder, phantom(), kind)[0]


def _read_dicom(path: Path) -> np.ndarray | None:
    """As the layout does: everything in the folder."""
    found, image = contents(path.parent), None
    for series in found.series:
        image = read_image(series.path).array
        for annotation in found.annotations:
            list(structure_masks(annotation, series))
    return image


def _labels(path: Path) -> None:
    names = "".join(f'{value} 255 0 0 1.0 1 1 "organ {value}"\n' for value in range(1, 4))
    table = "index\tname\n" + "".join(f"{value}\torgan {value}\n" for value in range(1, 4))
    content = {".label": names, ".tsv": table, ".json": '{"labels": {"background": 0, "liver": 1, "2": "spleen"}}'}
    path.write_text(content[path.suffix])


def _read_labels(path: Path) -> None:
    named_values([path.parent])


def _open_annotations(path: Path) -> None:
    """As a command does, whose masks lie in a cache."""
    root = next(parent for parent in path.parents if parent.name == "set")
    check_dataset(partial(open_dataset, root, layout="annotated", cache=root.parents[1] / "cache"), root)


def _read_annotations(path: Path) -> None:
    found = find_annotations(next(parent for parent in path.parents if parent.name == "set"))
    for file in found.files if found else ():
        annotated = found.read(file) if found else None
        for image in annotated.images if annotated else ():
            pixels = image.in_pixels(annotated_sets.WIDTH, annotated_sets.HEIGHT) if image.relative else image
            draw(pixels.shapes, (annotated_sets.HEIGHT, annotated_sets.WIDTH), {"dish": 1, "cell": 2})


def _annotated(program: str, pattern: str, *changes: Change) -> Subject:
    def make(folder: Path) -> Path:
        annotated_sets.WRITERS[program](folder / "all" / "set", "a", "b")
        return sorted((folder / "all" / "set").glob(pattern))[0]

    return Subject(make, (_read_annotations, _open_annotations), changes)


def _data_set(make_dataset: Callable[..., Path], layout: str, name: str, folder: Path) -> Path:
    return make_dataset(folder, layout, n=3, shape=(4, 5, 6)) / name


def _check(path: Path) -> None:
    check_dataset(partial(open_dataset, path.parent), path.parent)


def _splits(make_dataset: Callable[..., Path], folder: Path) -> Path:
    root = make_dataset(folder / "set", n=4, shape=(4, 5, 6))
    names = sorted(case.id for case in open_dataset(root).cases)
    (folder / "splits.json").write_text(
        str([{"train": names[:2], "val": names[2:]}, {"train": names[2:], "val": names[:2]}]).replace("'", '"')
    )
    return folder / "splits.json"


def _read_splits(path: Path) -> None:
    folds(open_dataset(path.parent / "set"), file=path)


def _plan(folder: Path) -> Path:
    shutil.copy(OLD / "seed0" / "plan.yaml", folder)
    return folder / "plan.yaml"


def _read_plan(path: Path) -> None:
    plan = read_plan(path)
    str(plan)


def _model(name: str, folder: Path) -> Path:
    save(folder)
    return folder / name


def _load_model(path: Path) -> None:
    load_model(path.parent)


def _run(name: str, folder: Path) -> Path:
    shutil.copytree(OLD / "seed0", folder / "run")
    return folder / "run" / name


def _read_run(path: Path) -> None:
    """As tables, comparisons and resuming read it."""
    folder = path.parent
    failure(folder)
    written_plan(folder)
    try:
        check_folder(folder, {"seed": 0})
    except UserError as error:  # it is another run
        str(error)
    run = read_run(folder)
    text_table(run.summary, run.scans)
    str(run.table)


def _write_page(path: Path) -> None:
    write_page(path.parent)


def subjects(make_dataset: Callable[..., Path]) -> dict[str, Subject]:
    """Every kind of file, by name."""
    data_set = partial(_data_set, make_dataset)
    grey, numbers, words = Image.fromarray(FLAT), change.of_numbers, change.of_words
    run = {
        name: Subject(partial(_run, name), (_read_run,), (how,), costly=True)
        for name, how in (
            ("summary.json", change.of_json), ("scans.csv", change.of_csv), ("provenance.json", change.of_json),
            ("config.yaml", change.of_yaml),
        )
    }  # fmt: skip
    return {
        "nii": _image("a.nii", _nifti, numbers),
        "nii.gz": _image("a.nii.gz", _nifti, change.inside_gzip(numbers), change.inside_gzip(change.of_bytes)),
        "mgz": _image("a.mgz", _mgh, change.inside_gzip(numbers)),
        **{end: _image(f"a.{end}", _itk, words) for end in ("mha", "mhd", "nrrd", "nhdr", "seg.nrrd")},
        "tif": _image("a.tif", _ome, numbers),
        "tif, tiles": _image("b.tif", _tiles, numbers),
        "png": _image("a.png", grey.save, change.of_png),
        "png, palette": _image("b.png", grey.convert("P").save, change.of_png),
        "jpg": _image("a.jpg", grey.save, numbers),
        "bmp": _image("a.bmp", grey.save, numbers),
        "npy": _image("a.npy", lambda path: np.save(path, VOLUME), words),
        "npz": _image("a.npz", lambda path: np.savez(path, VOLUME), change.inside_zip(words)),
        "h5": _image("a.h5", _hdf5, partial(numbers, header=4000)),
        "dcm": Subject(_series, (_read_dicom, findings_in), (partial(numbers, header=3000), words), costly=True),
        **{
            f"dcm, {kind}": Subject(partial(_annotation, kind), (_read_dicom,), (partial(numbers, header=9000),), True)
            for kind in ("binary", "rtstruct")
        },
        "voc": _annotated("voc", "Annotations/*.xml", words),
        "cvat": _annotated("cvat", "annotations.xml", words),
        "coco": _annotated("coco", "annotations/*.json", change.of_json),
        "labelme": _annotated("labelme", "*.json", change.of_json),
        "yolo": _annotated("yolo", "labels/*.txt", words),
        "dataset.json, msd": Subject(partial(data_set, "msd", "dataset.json"), (_check,), (change.of_json,)),
        "dataset.json, nnunet": Subject(partial(data_set, "nnunet", "dataset.json"), (_check,), (change.of_json,)),
        "table": Subject(partial(data_set, "table", "scans.csv"), (_check,), (change.of_csv,)),
        "itk-snap labels": Subject(_file("a.label", _labels), (_read_labels,), (words,)),
        "bids labels": Subject(_file("dseg.tsv", _labels), (_read_labels, findings_in), (words,)),
        "labels.json": Subject(_file("labels.json", _labels), (_read_labels, findings_in), (change.of_json,)),
        "splits": Subject(partial(_splits, make_dataset), (_read_splits,), (change.of_json,)),
        "plan.yaml": Subject(_plan, (_read_plan,), (change.of_yaml,)),
        "model.json": Subject(partial(_model, "model.json"), (_load_model,), (change.of_json,), costly=True),
        "weights": Subject(partial(_model, "weights.safetensors"), (_load_model,), (numbers, words), costly=True),
        **run,
        **{f"{name}, page": Subject(one.make, (_write_page,), one.changes, costly=True) for name, one in run.items()},
    }  # fmt: skip


def mutated(content: bytes, changes: Iterable[Change], rng: random.Random, secret: Path) -> bytes:
    """A third of the time its bytes are changed, else its values."""
    how = change.of_bytes if rng.random() < 1 / 3 else rng.choice([*changes])
    return how(content, rng).replace(change.SECRET.encode(), str(secret).encode())
