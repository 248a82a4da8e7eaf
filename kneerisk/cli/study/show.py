"""What the commands of a study print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kneerisk.cli import show
from kneerisk.cli.show import escaped

if TYPE_CHECKING:
    from rich.console import Console

    from kneerisk.study.derive import Derived
    from kneerisk.study.recalibrate import Calibrated
    from kneerisk.study.results import Evaluation, Figure, Group

_RESEARCH = "Research use only, not a diagnosis."


def derived(done: Derived, *, as_json: bool, quiet: bool) -> None:
    """The end of a derivation."""
    if not _begin(done.to_json(), done.warnings, as_json=as_json, quiet=quiet):
        return
    what = "participants and visits" if done.level == "participant" else "rows"
    _say(f"[bold]{escaped(done.out)}[/]: {done.rows} {what}")
    listed = ", ".join(f"{basis} {count}" for basis, count in done.basis.items())
    _say(f"  [dim]scored knees by what their risks stand on:[/] {listed}")
    means = done.columns.items()
    show.pairs([(n, "no knee has it" if m is None else f"mean {100 * m:.1f} %") for n, m in means])
    _say(f"[dim]equations: {escaped(done.population)}[/]")
    for name, population in done.recalibrated.items():
        _say(f"[dim]{name} recalibrated to: {escaped(population)}[/]")
    _say(f"[dim]{_RESEARCH}[/]")


def evaluation(found: Evaluation, *, as_json: bool, quiet: bool) -> None:
    """What an evaluation found."""
    if not _begin(found.to_json(), found.warnings, as_json=as_json, quiet=quiet):
        return
    whole = found.overall
    unit = "knees" if found.level == "knee" else "participants (either knee)"
    by = escaped(found.column)
    _say(f"[bold]{found.outcome_words} within {found.months} months[/] ({found.outcome}), by {by}")
    _say(
        f"{whole.events} events among {whole.knees} {unit} of {whole.participants} participants: "
        f"{100 * whole.prevalence:.1f} %"
    )
    for why, count in found.excluded.items():
        _say(f"  [dim]{count} left out:[/] {escaped(why)}")
    for note in found.notes:
        _say(f"  [dim]note:[/] {escaped(note)}")
    if found.basis:
        _say(f"  [dim]risks stand on:[/] {', '.join(f'{b} {n}' for b, n in found.basis.items())}")
    _scores(whole)
    for d in whole.differences:
        p = "" if d.p_delong is None else f", DeLong p {_p(d.p_delong)}"
        _say(f"  AUC above {escaped(d.baseline)}: {_text(d.auc)}{p}")
    model = whole.scores["model"]
    _table(
        "Calibration",
        ("", "figure", "right is"),
        [
            ("in the large", _text(model.calibration_intercept), "0"),
            ("slope", _text(model.calibration_slope), "1"),
            ("mean |risk - observed| (ICI)", _text(model.ici), "0"),
            ("median (E50), 90th percentile (E90)", f"{_text(model.e50)}, {_text(model.e90)}", "0"),
        ],
    )
    _table(
        "Called positive from",
        ("risk", "positive", "sensitivity", "specificity", "PPV", "NPV"),
        [
            (
                f"{p.threshold:.3f}",
                str(p.positives),
                *map(_text, (p.sensitivity, p.specificity, p.ppv, p.npv)),
            )
            for p in found.operating_points
        ],
    )
    _groups(found.subgroups)
    if (g := found.grades) is not None:
        _say(
            f"Grade now, image against reader, {g.knees} knees: accuracy {_text(g.accuracy)}, balanced "
            f"{_text(g.balanced_accuracy)}, quadratic kappa {_text(g.quadratic_kappa)}"
        )
    if (mark := found.landmarks) is not None:
        shares = ", ".join(f"{100 * share:.0f} % within {mm} mm" for mm, share in mark.within_mm.items())
        _say(
            f"Landmarks, {mark.knees} knees: mean {mark.mean_mm:.2f} mm, median {mark.median_mm:.2f} mm, "
            f"{shares}, {100 * mark.outliers:.1f} % 10 mm or more away"
        )
    _say(
        f"[dim]95 % intervals in brackets, of {found.bootstraps} draws of participants. AUCs of different "
        f"outcomes cannot be compared. {_RESEARCH}[/]"
    )


def calibration(done: Calibrated, *, as_json: bool, quiet: bool) -> None:
    """The end of a calibration."""
    if not _begin(done.to_json(), done.warnings, as_json=as_json, quiet=quiet):
        return
    r = done.recalibration
    _say(
        f"[bold]{escaped(done.out)}[/]: {r.kind} calibration of {r.column} to {escaped(r.population)}, "
        f"from {r.fitted_on['events']} events among {r.fitted_on['knees']} knees of "
        f"{r.fitted_on['participants']} participants"
    )
    for why, count in done.excluded.items():
        _say(f"  [dim]{count} left out:[/] {escaped(why)}")
    for note in done.notes:
        _say(f"  [dim]note:[/] {escaped(note)}")
    if r.measured:
        rows = []
        for when in ("before", "after"):
            f = r.measured[when]
            large, slope = f["calibration_intercept"]["value"], f["calibration_slope"]["value"]
            rows.append(
                (when, *("-" if v is None else f"{v:.3f}" for v in (large, slope, f["ici"], f["brier"])))
            )
        _table("On participants that were left out", ("", "in the large", "slope", "ICI", "Brier"), rows)
    if (c := r.conformal) is not None:
        _say(
            f"Sets of grades for {100 * c.coverage:.0f} %: on participants that were left out they held the "
            f"reader's grade in {100 * c.measured:.1f} % of knees, with {c.mean_size:.2f} grades on average"
        )
    _say(f"  apply it: kneerisk derive TABLE --calibration {escaped(done.out)} --out FILE")


def _begin(data: dict[str, object], warnings: Sequence[str], *, as_json: bool, quiet: bool) -> bool:
    """Warnings and JSON; whether words are wanted too."""
    for warning in warnings:
        show.warn(warning)
    if as_json:
        show.print_json(data)
    return not (as_json or quiet)


def _scores(group: Group) -> None:
    rows = [
        (name, *map(_text, (f.auc, f.average_precision, f.brier, f.scaled_brier)))
        for name, f in group.scores.items()
    ]
    header = ("", "AUC", "average precision", "Brier", "scaled Brier")
    _table(f"Discrimination ({group.events} events, {group.knees} knees)", header, rows)


def _groups(groups: Sequence[Group]) -> None:
    rows = [
        (
            g.family,
            g.value,
            f"{g.events} / {g.knees}",
            _text(g.scores["model"].auc),
            _text(g.scores["model"].calibration_intercept),
            _text(g.scores["model"].calibration_slope),
        )
        for g in groups
    ]
    _table("By group", ("", "", "events / knees", "AUC", "in the large", "slope"), rows)


def _text(figure: Figure) -> str:
    if figure.value is None:
        return f"- ({figure.reason})"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in header:
        table.add_column(name, header_style="dim", overflow="fold")
    for row in rows:
        table.add_row(*map(escaped, row))
    _console().print(table, highlight=False)


def _say(text: str) -> None:
    _console().print(text, highlight=False, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    return Console()
