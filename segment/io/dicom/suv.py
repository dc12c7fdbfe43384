"""Standardised uptake values of PET."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from segment.errors import UserError
from segment.io.dicom.files import damage_as_value_error, number, read_attributes, text
from segment.io.dicom.series import Series

if TYPE_CHECKING:
    from pydicom import Dataset

_TAGS = [
    "Units",
    "CorrectedImage",
    "DecayCorrection",
    "PatientWeight",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "RadiopharmaceuticalInformationSequence",
]


def suv_factor(series: Series) -> float:
    """Factor from a PET series' values to standardised uptake values by body weight.

    SUV = activity [Bq/ml] * weight [g] / dose [Bq], the dose decayed from injection to the start of the series,
    to which scanners correct the activity (`DecayCorrection` START); with ADMIN the activity is that at injection, and
    the dose is taken as it is. Source: the vendor-neutral calculation of QIBA's FDG-PET/CT profile.

    Args:
        series: A PET series in Bq/ml, or in g/ml, which are SUV already.

    Returns:
        g/Bq, to multiply values in Bq/ml by; 1 for g/ml.

    Raises:
        UserError: If the series is not PET, its unit is another, or a value of the formula is missing or impossible.
    """
    try:
        with damage_as_value_error():
            return _of_series(series)
    except ValueError as error:
        raise UserError(
            f"{series.path}: no SUV can be computed of its series: {error}. Convert it without suv=true."
        ) from error


def _of_series(series: Series) -> float:
    dataset = read_attributes(series.path, _TAGS)
    if series.modality != "PT":
        raise ValueError(f"its modality is {series.modality}, not PT")
    unit = text(dataset, "Units")
    if unit not in ("BQML", "GML"):
        raise ValueError(f"its unit is {unit or 'missing'}, not BQML (Bq/ml)")
    return 1.0 if unit == "GML" else _factor(dataset)


def _factor(dataset: Dataset) -> float:
    corrected = [str(item) for item in dataset.get("CorrectedImage") or []]
    if not {"ATTN", "DECY"} <= {*corrected}:
        raise ValueError("it is not corrected for attenuation and decay")
    drugs = dataset.get("RadiopharmaceuticalInformationSequence") or []
    if len(drugs) != 1:
        raise ValueError(f"it names {len(drugs)} injections")
    weight, dose = number(dataset, "PatientWeight"), number(drugs[0], "RadionuclideTotalDose")
    half_life = number(drugs[0], "RadionuclideHalfLife")
    if not weight or not dose or not half_life or min(weight, dose, half_life) <= 0:
        raise ValueError("the patient's weight, the dose or the half-life is missing")
    correction = text(dataset, "DecayCorrection")
    if correction == "ADMIN":
        return weight * 1000 / dose
    if correction != "START":
        raise ValueError(f"its decay correction is {correction or 'missing'}, neither START nor ADMIN")
    waited = (_start_of_series(dataset) - _injection(dataset, drugs[0])).total_seconds()
    if not 0 <= waited < 24 * 3600:
        raise ValueError(f"the series starts {waited:.0f} s after the injection")
    return weight * 1000 / (dose * 2 ** (-waited / half_life))


def _start_of_series(dataset: Dataset) -> datetime:
    """Time of the series, unless a program that processed it later set it after the acquisition."""
    start = _time(text(dataset, "SeriesDate") + text(dataset, "SeriesTime"))
    acquired = _time(text(dataset, "AcquisitionDate") + text(dataset, "AcquisitionTime"))
    if start > acquired:
        raise ValueError("the time of the series is later than that of its acquisition, as in processed series")
    return start


def _injection(dataset: Dataset, drug: Dataset) -> datetime:
    whole = text(drug, "RadiopharmaceuticalStartDateTime")
    if whole:
        return _time(whole)
    moment = _time(text(dataset, "SeriesDate") + text(drug, "RadiopharmaceuticalStartTime"))
    # Without a date: an injection shortly before midnight seems to come after the scan.
    return moment - timedelta(days=1) if moment > _start_of_series(dataset) else moment


def _time(value: str) -> datetime:
    """Date and time, without the fraction of a second and the time zone."""
    try:
        return datetime.strptime(value[:14].split(".")[0], "%Y%m%d%H%M%S")
    except ValueError:
        raise ValueError("the time of injection, series or acquisition is missing") from None
