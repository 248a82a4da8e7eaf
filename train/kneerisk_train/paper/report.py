"""The report of the experiments: Markdown, HTML and pictures; the paper's figures beside ours."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.marks import KEYWORD, MARK, marked_png
from kneerisk.plotting import figure_class
from kneerisk_train.paper.experiments import Findings, Outcome
from kneerisk_train.run.pictures import side_by_side
from kneerisk_train.run.session import Session

_PAPER = "arXiv 2506.14560"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #ccc;padding:.3em .7em;text-align:left}"
    "img{max-width:100%}"
)
_BINS = np.linspace(0, 1, 11)
_LABEL_NOISE_PX = 5.0


def write_report(findings: Findings, session: Session, folder: Path) -> Path:
    """Write ``report.md`` with its pictures, and ``report.html``, which holds them; returns its path."""
    import markdown

    folder.mkdir(parents=True, exist_ok=True)
    crops, decoded = findings.pictures
    rows = (f"radiographs of {findings.split}", crops), ("their reconstructions", decoded)
    encoded = cv2.imencode(".png", side_by_side(*rows))[1].tobytes()
    (folder / "reconstructions.png").write_bytes(marked_png(encoded))
    drawn = calibration_curves(findings, folder / "calibration.png")
    losses = _losses(session, folder)
    text = "\n".join(_lines(findings, session, drawn, losses)) + "\n"
    (folder / "report.md").write_text(text, encoding="utf-8")
    body = _with_pictures(markdown.markdown(text, extensions=["tables"]), folder)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>kneerisk experiments</title>'
        f"<style>{_STYLE}</style>{body}</html>\n"
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _losses(session: Session, folder: Path) -> list[str]:
    """Copy the plots of the run's losses into the report's folder; gives their stages."""
    names = []
    for plot in sorted((session.out / "pictures").glob("*/loss.png")):
        names.append(plot.parent.name)
        shutil.copyfile(plot, folder / f"loss-{plot.parent.name}.png")
    return names


def _with_pictures(body: str, folder: Path) -> str:
    """HTML whose pictures of the folder are in the text itself, so that the page is one file."""

    def embedded(match: re.Match[str]) -> str:
        data = base64.b64encode((folder / match[1]).read_bytes()).decode("ascii")
        return f'src="data:image/png;base64,{data}"'

    return re.sub(r'src="([\w.-]+\.png)"', embedded, body)


def _lines(findings: Findings, session: Session, drawn: bool, losses: Sequence[str]) -> Iterator[str]:
    base, without_z0, delta_0 = findings.outcomes
    people = len(np.unique(findings.knees.participant))
    simulated = "simulated" in session.data.name.lower() or bool(session.data.provenance.get("simulated"))
    yield "# Experiments"
    yield ""
    yield (
        f"Cohort: {session.data.name}{' (SIMULATED)' if simulated else ''}; recipe {session.recipe.name}. "
        f"Figures are of the {findings.split} split, {len(findings.knees)} knees and visits of {people} "
        "participants"
        + ("." if findings.split == "test" else ", **which also chose**: there is no test split.")
        + " Brackets: 95 % intervals, by a bootstrap over participants. The outcome is any rise of the KL "
        f"grade within 12 months. The paper is {_PAPER}: its figures are of the OAI and of networks and "
        "splits that are not public, so a difference says little. Research software, no medical device."
    )
    yield from _first_three(findings, base, without_z0, delta_0)
    yield from _upscaling(findings)
    yield from _checks(findings, base, drawn)
    if losses:
        yield from ("", "## How the base run trained", "")
    for name in losses:
        yield from (f"![Loss of the stage {name}, step by step](loss-{name}.png)", "")


def _first_three(findings: Findings, base: Outcome, without_z0: Outcome, delta_0: Outcome) -> Iterator[str]:
    yield from ("", "## 1. Reconstruction", "")
    yield "![Crops above their reconstructions](reconstructions.png)"
    yield from (
        "",
        "| figure | the paper | ours |",
        "|---|---|---|",
        "| reconstructions graded, mean one-against-rest AUC | target > 0.70 "
        f"| {_cell(base.figures.get('reconstructions_auc'))} |",
        f"| radiographs graded, the same | not said | {_cell(base.figures.get('kl_auc'))} |",
        "",
        "## 2. Diffusion with and without the current latent (z0)",
        "",
        "| figure | the paper | with z0 | without z0 |",
        "|---|---|---|---|",
    )
    for words, paper, key in (
        ("AUC of the risk sum for a rise", "0.71 with", "risk_sum_auc"),
        ("AUC of the forecast above the reader's grade", "not said", "forecast_auc"),
        ("AUC of the risk from the image", "not said", "risk_image_auc"),
        ("AUC of the risk given the reader's grade", "not said", "risk_given_grade_auc"),
    ):
        yield f"| {words} | {paper} | {_risk(base, key)} | {_risk(without_z0, key)} |"
    yield from ("", "## 3. Classifiers with landmarks (delta 0.5) and without (delta 0)", "")
    yield "Stage 3 alone; the VQ-VAE, whose auxiliary head learns landmarks, is shared."
    yield from ("", "| figure | the paper, with / without | delta 0.5 | delta 0 |", "|---|---|---|---|")
    for words, paper, key in (
        ("AUC of the risk sum for a rise", "0.65 / 0.63", "risk_sum_auc"),
        ("KL accuracy", "not said", "kl_accuracy"),
        ("quadratic kappa", "not said", "kl_quadratic_kappa"),
        ("landmarks, median error in mm", "not said", "landmark_median_mm"),
    ):
        yield f"| {words} | {paper} | {_risk(base, key)} | {_risk(delta_0, key)} |"


def _upscaling(findings: Findings) -> Iterator[str]:
    yield from ("", "## Test-time upscaling, by transition", "")
    if not findings.upscaling:
        yield "Not computed: the cohort has no graded pairs of visits a year apart."
        return
    yield (
        "The paper: 2x is better for stable low grades and for progressing knees, worse for stable high "
        "grades. Ours upscales the crop's centre (`score --upscale`), which is not quite the same."
    )
    yield from (
        "",
        "| transition | pairs | raw risk 1x / 2x | grade at 12 months right, 1x / 2x |",
        "|---|---|---|---|",
    )
    for row in findings.upscaling:
        risks = " / ".join(f"{value:.3f}" for value in row.mean_risk)
        right = " / ".join(f"{value:.1%}" for value in row.right)
        yield f"| {row.group} | {row.pairs} | {risks} | {right} |"


def _checks(findings: Findings, base: Outcome, drawn: bool) -> Iterator[str]:
    yield from ("", "## Next checks", "", "### Calibration of the classifiers, by grade", "")
    if drawn:
        yield "![How often a grade is read, by the probability that the classifier gives it](calibration.png)"
        yield ""
    yield "Expected calibration error: the mean gap between probability and frequency, over ten bins."
    yield from ("", "| grade | now | at 12 months, real second visits |", "|---|---|---|")
    now, later = _calibration_errors(findings)
    for grade in range(5):
        then = "no pairs of visits" if later is None else f"{later[grade]:.3f}"
        yield f"| KL {grade} | {now[grade]:.3f} | {then} |"
    yield from ("", "### Landmark labels", "")
    if findings.landmark_disagreement_px is None:
        yield "Not computed: no knee of this split has landmarks."
    else:
        off = findings.landmark_disagreement_px
        advice = "below" if off <= _LABEL_NOISE_PX else "above"
        yield (
            f"Median distance of the network's landmarks to the marked ones: {off:.1f} crop pixels, {advice} "
            "the 5 px at which the paper would weigh the landmark loss down. The labels' own noise cannot "
            "be told: nobody marked these knees twice; the network's error bounds it from above."
        )
    yield from ("", "### Figures of the base run", "", "| figure | value |", "|---|---|")
    for key, value in base.figures.items():
        yield f"| {key} | {_cell(value)} |"


def _risk(outcome: Outcome, key: str) -> str:
    if outcome.figures.get(key) is None:
        missing = "landmarks" if key.startswith("landmark") else "rises between two visits"
        return f"not computed: too few {missing}"
    return _cell(outcome.figures[key])


def _cell(value: object) -> str:
    if value is None:
        return "not computed: too few knees"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _answers(
    findings: Findings,
) -> tuple[
    tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
    tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | None,
]:
    """(posterior, grade) now and, where there are second visits, at 12 months."""
    forecast, grade = findings.outcomes[0].forecast, findings.knees.grade
    graded = grade >= 0
    pairs = findings.pairs
    later = None
    if len(pairs.current):
        later = (forecast.p_12m[pairs.current].mean(axis=1), grade[pairs.future])
    return (forecast.p_now[graded], grade[graded]), later


def _calibration_errors(findings: Findings) -> tuple[list[float], list[float] | None]:
    now, later = _answers(findings)
    return _errors(*now), None if later is None else _errors(*later)


def _errors(posterior: npt.NDArray[np.float32], grade: npt.NDArray[np.int64]) -> list[float]:
    """Expected calibration error of each grade's probability."""
    errors = []
    for g in range(posterior.shape[1]):
        bins = np.digitize(posterior[:, g], _BINS[1:-1])
        gaps = [
            (bins == b).mean() * abs(posterior[bins == b, g].mean() - (grade[bins == b] == g).mean())
            for b in np.unique(bins)
        ]
        errors.append(float(np.sum(gaps)))
    return errors


def calibration_curves(findings: Findings, path: Path) -> bool:
    """Draw frequency against probability, a panel for each classifier; False without matplotlib."""
    try:
        make = figure_class()
    except ImportError:
        return False
    now, later = _answers(findings)
    panels = [("now", *now)] + ([("at 12 months", *later)] if later is not None else [])
    figure = make(figsize=(5 * len(panels), 4.4), layout="constrained")
    for place, (title, posterior, grade) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for g in range(posterior.shape[1]):
            bins = np.digitize(posterior[:, g], _BINS[1:-1])
            filled = [b for b in np.unique(bins) if (bins == b).sum() >= 5]
            given = [posterior[bins == b, g].mean() for b in filled]
            seen = [(grade[bins == b] == g).mean() for b in filled]
            axes.plot(given, seen, marker="o", markersize=3, label=f"KL {g}")
        axes.set(title=f"grade {title}", xlabel="probability given", ylabel="share of knees")
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={KEYWORD: MARK})
    return True
