"""The report's fixed words: measures, rows of tables, names of settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kneerisk.study.scores import Scores

MEASURES = (
    ("auc", "AUC", "the chance that a knee with the outcome has the higher risk; 0.5 is none"),
    ("auc_delong", "AUC, DeLong's interval", "the same; another way to its interval"),
    ("average_precision", "average precision", "compare with the prevalence, which is what chance gives"),
    ("brier", "Brier score", "mean squared distance of risk and outcome; less is better"),
    (
        "scaled_brier",
        "scaled Brier score",
        "1 is perfect; 0 is no better than telling everybody the prevalence",
    ),
    ("calibration_intercept", "calibration intercept", "0 is right; below 0 the risks are too high"),
    ("calibration_slope", "calibration slope", "1 is right; below 1 the risks are too extreme"),
    ("ici", "ICI", "mean distance of risk and observed frequency"),
    ("e50", "E50", "the median of that distance"),
    ("e90", "E90", "its 90th percentile"),
)
"""Keys of an evaluation's figures → name and how to read it."""

ENRICHMENT_ROWS = (
    ("event_rate", "event rate", "percent"),
    ("predicted_rate", "promised by the risks", "percent"),
    ("captured", "share of all events", "percent"),
    ("number_needed_to_screen", "screened for each one enrolled", "ratio"),
    ("per_arm", "sample size an arm", "number"),
    ("enrolled", "to enrol", "number"),
    ("screened", "to screen", "number"),
    ("cost", "cost of screening and enrolment", "number"),
)
"""Keys of an enrichment's point → name and how it is written."""

_SETTINGS = (
    "stack", "stack_sha256", "backend", "precision", "engine_key", "seed", "steps", "samples", "upscale",
    "kneerisk_version", "id_from", "side", "spacing_mm", "invert",
)  # fmt: skip
_READ = (
    "risk_12m", "risk_12m_basis", "risk_12m_lo", "risk_12m_hi", "risk_12m_image", "risk_12m_sum", "novelty",
    "kl_now", "kl_0m", "kl_12m", "at_ceiling", "jsw_medial_mm", "jsw_medial_mm_12m", "qc_flags",
)  # fmt: skip


def settings_of(scores: Scores) -> dict[str, Any]:
    """The run's settings by name, as the table carries them; no path of the machine that scored it."""
    run = scores.documents.get("run", {})
    found = {name: run.get("fingerprint", {}).get(name) for name in _SETTINGS}
    found |= {name: run.get(name) for name in ("started", "finished", "shard", "images_in_scan")}
    if found["stack"] is None:
        found["stack"] = scores.stack
    return found


def dictionary(scores: Scores) -> list[tuple[str, str]]:
    """Column → unit, meaning and null rule, of the columns that the report reads."""
    known = scores.documents.get("data_dictionary", {})
    found = []
    for name in _READ:
        entry = known.get(name)
        if name in scores.frame.columns and isinstance(entry, dict):
            unit = f" ({entry['unit']})" if entry.get("unit") else ""
            null = f"; null {entry['null']}" if entry.get("null") else ""
            found.append((name, f"{entry.get('meaning', '')}{unit}{null}"))
    return found
