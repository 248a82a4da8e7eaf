"""The columns of the table, in their fixed order: name, type, unit, meaning and null rule of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kneerisk.method.predict import UNUSUAL_APPEARANCE
from kneerisk.radiograph.flags import MEANINGS
from kneerisk.records import KL_GRADES, LANDMARKS, CarriedKind

Kind = Literal["text", "integer", "real", "boolean", "date", "texts"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column and its entry in the data dictionary."""

    name: str
    kind: Kind
    unit: str
    """Empty where it has none."""
    meaning: str
    null: str
    """When the value is null."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What each value means, where the values are codes."""


_FLAGS = {**MEANINGS, UNUSUAL_APPEARANCE: "unlike what the networks were trained on: trust the row less"}
_NONE: Mapping[str, CarriedKind] = {}
_NEVER = "never"
_NOT_OK = "where status is not ok"


def _identity() -> Iterator[Column]:
    yield Column(
        "participant_id",
        "text",
        "",
        "whose knee it is; text, as ids always are",
        "where neither manifest, --id-from nor folder names one",
    )
    yield Column("visit", "text", "", "visit, as the manifest or folder names it", "where nothing names one")
    yield Column(
        "side",
        "text",
        "",
        "L or R: the participant's left or right knee",
        "where the row refuses a whole image and neither manifest nor --side names one",
    )
    yield Column("source_path", "text", "", "the image, relative to its input folder or manifest", _NEVER)
    yield Column("image_index", "integer", "", "position of the image in the scan, from 0", _NEVER)
    yield Column("sop_instance_uid", "text", "", "DICOM SOPInstanceUID", "for images that are not DICOM")
    yield Column("input_sha256", "text", "", "sha256 of the file's bytes", "where the file could not be read")


def _status() -> Iterator[Column]:
    yield Column("status", "text", "", "ok, refused (nothing to score) or failed (something broke)", _NEVER)
    yield Column("reason", "text", "", "code of the refusal or failure", "where status is ok")
    yield Column("message", "text", "", "what happened and what to do, in words", "where status is ok")
    yield Column(
        "qc_flags",
        "texts",
        "",
        "quality flags, by name; an empty list where nothing is to be said",
        _NEVER,
        _FLAGS,
    )


def _grades() -> Iterator[Column]:
    yield Column(
        "kl_0m",
        "integer",
        "KL grade",
        "a reader's current grade, from the manifest",
        "where the manifest brings none",
    )
    for prefix, when in (("kl_now", "now"), ("kl_12m", "at 12 months")):
        note = "" if prefix == "kl_now" else ", mean over the sampled futures"
        whose = "the image's" if prefix == "kl_now" else "the forecast's"
        middle = f"the middle of {whose} probabilities {when}: with a chance of one half it is this or lower"
        yield Column(prefix, "integer", "KL grade", middle, _NOT_OK)
        for grade in KL_GRADES:
            yield Column(f"{prefix}_p{grade}", "real", "probability", f"P(KL {grade} {when}){note}", _NOT_OK)
    yield Column("at_ceiling", "boolean", "", "kl_now is 4, which cannot rise", _NOT_OK)


def _risks() -> Iterator[Column]:
    yield Column(
        "risk_12m",
        "real",
        "probability",
        "P(a reader's KL grade rises within 12 months), calibrated to the population named in the file's "
        "metadata; given kl_0m where the manifest brings one, else from the image",
        _NOT_OK,
    )
    yield Column("risk_12m_basis", "text", "", "what risk_12m is given: grade (kl_0m) or image", _NOT_OK)
    for name, place in (("lo", "2.5th"), ("hi", "97.5th")):
        yield Column(
            f"risk_12m_{name}",
            "real",
            "probability",
            f"{place} percentile of risk_12m over the sampled futures: the forecast's spread alone",
            f"{_NOT_OK}, or with one sample",
        )
    yield Column(
        "risk_12m_image",
        "real",
        "probability",
        "risk_12m as it is from the image alone, for every knee",
        _NOT_OK,
    )
    yield Column(
        "risk_12m_sum",
        "real",
        "score",
        "the raw sum of arXiv 2506.14560, Eq. 3-4, which takes the grades now and at 12 months as "
        "independent: a score to compare with the paper's, no probability",
        _NOT_OK,
    )
    yield Column(
        "novelty",
        "real",
        "",
        "how unlike the training radiographs the encoder finds the knee; about 1 for one like them",
        _NOT_OK,
    )


def _landmarks() -> Iterator[Column]:
    for prefix, when in (("lm_now", "now"), ("lm_12m", "at 12 months, mean over the sampled futures")):
        for point in LANDMARKS:
            for axis in "xy":
                yield Column(
                    f"{prefix}_{point}_{axis}",
                    "real",
                    "px",
                    f"{axis} of landmark {point} {when}, in the source image as stored",
                    _NOT_OK,
                )
    for suffix, when in (("", "now"), ("_12m", "forecast at 12 months")):
        for side in ("medial", "lateral"):
            yield Column(
                f"jsw_{side}_mm{suffix}",
                "real",
                "mm",
                f"minimum {side} joint space width {when}: a proxy from the landmarks, unvalidated",
                f"{_NOT_OK}, or where spacing is unknown or the landmarks are in disorder",
            )
    yield Column(
        "px_spacing_mm",
        "real",
        "mm/px",
        "pixel spacing of the source image; mean of row and column spacing",
        "where unknown",
    )
    yield Column("spacing_source", "text", "", "where the spacing comes from", "where status is not ok")


def _provenance() -> Iterator[Column]:
    yield Column("stack", "text", "", "name and version of the networks", _NEVER)
    yield Column("stack_sha256", "text", "", "sha256 of the networks with their calibration", _NEVER)
    yield Column("backend", "text", "", "what ran the networks: cpu, torch or tensorrt", _NEVER)
    yield Column("precision", "text", "", "arithmetic that the networks ran in, such as fp32", _NEVER)
    yield Column("engine_key", "text", "", "key of the compiled engines", "where the backend compiles none")
    yield Column(
        "seed", "integer", "", "seed of the forecasts' noise; compare tables of one seed only", _NEVER
    )
    yield Column("steps", "integer", "", "steps of the sampler that drew the futures", _NEVER)
    yield Column("samples", "integer", "", "how many futures were sampled for each knee", _NEVER)
    yield Column("upscale", "boolean", "", "whether crops were upscaled 2× at test time", _NEVER)
    yield Column("kneerisk_version", "text", "", "version that scored the row", _NEVER)


COLUMNS: tuple[Column, ...] = (
    *_identity(),
    *_status(),
    *_grades(),
    *_risks(),
    *_landmarks(),
    *_provenance(),
)
"""Every column of every table; a manifest's own columns follow them, each of its kind."""

NAMES = frozenset(column.name for column in COLUMNS)


def carried(name: str, kind: CarriedKind) -> Column:
    """The entry of a manifest's own column."""
    return Column(name, kind, "", "carried through from the manifest", "where the manifest has no value")


def columns(extra: Mapping[str, CarriedKind] = _NONE) -> tuple[Column, ...]:
    """The table's columns with a manifest's own, name → kind, behind them."""
    return (*COLUMNS, *(carried(name, kind) for name, kind in extra.items()))


def dictionary(extra: Mapping[str, CarriedKind] = _NONE) -> dict[str, dict[str, Any]]:
    """Column → kind, unit, meaning, null rule and, of codes, their values: the table's data dictionary."""
    found: dict[str, dict[str, Any]] = {}
    for column in columns(extra):
        entry = asdict(column)
        found[entry.pop("name")] = entry
        if not column.values:
            del entry["values"]
    return found


def recalibrated(
    meanings: Mapping[str, Mapping[str, Any]], by: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """A data dictionary that says which risks, and ends of their intervals, were recalibrated, and to whom.

    Args:
        meanings: column → its entry.
        by: column → what was applied to it, with ``kind`` and ``population``.
    """
    found = {name: dict(entry) for name, entry in meanings.items()}
    for name, applied in by.items():
        for column in (name, f"{name}_lo", f"{name}_hi"):
            if column in found:
                found[column]["meaning"] += f"; recalibrated ({applied['kind']}) to: {applied['population']}"
    return found
