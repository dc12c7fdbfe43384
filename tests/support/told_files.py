"""Files of every format that tell something about a patient, and the same ones that do not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import tifffile
from made_dicom import make_series
from nibabel.nifti1 import Nifti1Extension
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

NAME, DAY, NUMBER = "Doe^Jane", "1970-03-25", "48151623"
SECRETS = (NAME, "Doe", DAY, "1970", NUMBER)


def _volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 300, (4, 5, 6)).astype(np.int16)


def nifti(path: Path, told: bool) -> None:
    kind = nib.Nifti2Image if "2" in path.name else nib.Nifti1Image
    image = kind(_volume().T, np.diag([1, 2, 3, 1]))
    image.header.set_slope_inter(2, -7)
    if told:
        image.header["descrip"], image.header["aux_file"] = NAME, NUMBER
        image.header["intent_name"] = DAY
        image.header.extensions.append(Nifti1Extension("comment", f"seen {NAME}".encode()))
        image.header.extensions.append(Nifti1Extension(4, b"<AFNI/>"))
    nib.save(image, path)


def itk(path: Path, told: bool) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(_volume()), str(path), path.name.startswith("packed"))
    if told:  # not with SimpleITK, which writes no comments
        content = path.read_bytes()
        if path.suffix == ".nrrd":
            more = f"content: {NAME}\n# made {DAY}\npatient:={NUMBER}\n".encode()
            content = content.replace(b"type: short\n", b"type: short\n" + more)
        else:
            content = content.replace(
                b"NDims = 3\n", f"NDims = 3\nComment = {NAME}\nAcquisitionDate = {DAY}\n".encode()
            )
        path.write_bytes(content)


def png(path: Path, told: bool) -> None:
    info = PngImagePlugin.PngInfo()
    if told:
        info.add_text("Author", NAME)
        info.add_text("Comment", f"born {DAY}", zip=True)
        info.add_itxt("Description", NUMBER, zip=True)
    image = Image.fromarray(_volume()[0].astype(np.uint8)).convert("P")
    image.save(path, pnginfo=info, transparency=3, **({"exif": _exif()} if told else {}))
    if told:
        path.write_bytes(path.read_bytes() + NAME.encode())


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x013B], exif[0x010F] = 6, NAME, "Camera"
    exif.get_ifd(0x8769)[0x9003] = "1970:03:25 12:00:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 10.0)})
    return exif


def jpeg(path: Path, told: bool) -> None:
    more = {"exif": _exif(), "comment": NUMBER} if told else {}
    Image.fromarray(np.stack([_volume()[0]] * 3, -1).astype(np.uint8)).save(
        path, progressive=True, dpi=(72, 72), **more
    )
    if told:
        path.write_bytes(path.read_bytes() + NAME.encode())


def tiff(path: Path, told: bool) -> None:
    volume = _volume().astype(np.uint16)
    if path.name.startswith("imagej"):
        more = {"Info": f"seen {NAME}", "Labels": [DAY] * 4, "Patient": NAME} if told else {}
        tifffile.imwrite(path, volume, imagej=True, metadata={"axes": "ZYX", "unit": "um", "spacing": 2.0, **more})
    elif path.name.startswith("ome"):
        more = {"Name": NAME, "Description": NUMBER, "AcquisitionDate": f"{DAY}T12:00:00"} if told else {}
        tifffile.imwrite(path, volume, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, **more})
    else:
        tags = [(315, "s", 0, NAME, True), (65000, "s", 0, NUMBER, True)] if told else []
        more = {"description": f"seen {DAY}", "datetime": "1970:03:25 12:00:00"} if told else {}
        tifffile.imwrite(path, volume[0], compression="zlib", byteorder=">", extratags=tags, software=False, **more)


def dicom(folder: Path, told: bool) -> None:
    def change(index: int, dataset: Dataset) -> None:
        for keyword in (
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "StudyDate",
            "StudyTime",
            "PatientID",
            "StudyID",
        ):
            setattr(dataset, keyword, "")
        dataset.SOPInstanceUID = generate_uid(prefix=None)
        for number, keyword in enumerate(("StudyInstanceUID", "FrameOfReferenceUID", "SeriesInstanceUID")):
            setattr(dataset, keyword, f"{'1.2.3.' if told else '2.25.'}{number + 1}")
        if told:
            dataset.PatientName, dataset.PatientBirthDate, dataset.PatientID = NAME, "19700325", NUMBER
            dataset.StationName = dataset.InstitutionName = "Doe hospital"
            source = Dataset()
            source.ReferencedSOPInstanceUID, source.PatientComments = "1.2.3.9", NAME
            dataset.SourceImageSequence = [source]
            dataset.private_block(0x0009, "Doe", create=True).add_new(1, "LO", NAME)
            dataset.add_new((0x6000, 0x3000), "OW", b"\1\0")

    make_series(folder, change=change)


MAKERS: dict[str, Callable[[Path, bool], None]] = {
    **dict.fromkeys(("scan.nii.gz", "scan.nii", "second2.nii.gz"), nifti),
    **dict.fromkeys(("scan.nrrd", "packed.nrrd", "scan.mha", "packed.mha"), itk),
    **{"mask.png": png, "eye.jpg": jpeg},
    **dict.fromkeys(("plain.tif", "imagej.tif", "ome.ome.tif"), tiff),
    "series": dicom,
}


def gzip_name(path: Path, name: str) -> None:
    """Write a file name into a gzip header."""
    content = path.read_bytes()
    flags = struct.unpack_from("B", content, 3)[0]
    assert not flags
    path.write_bytes(content[:3] + b"\x08" + content[4:10] + name.encode() + b"\0" + content[10:])
