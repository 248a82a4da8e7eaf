"""What people see: progress on stderr, summaries on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from kneerisk.cli.screen import events
from kneerisk.cli.screen.progress import duration, meter
from kneerisk.errors import ExitCode
from kneerisk.printable import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console

    from kneerisk.doctor import Findings
    from kneerisk.scoring.chain import Notice
    from kneerisk.scoring.cohort import Validation
    from kneerisk.scoring.outputs.summary import Summary
    from kneerisk.scoring.run import Progress


def escaped(text: str) -> str:
    """Printable text in which Rich finds no markup."""
    from rich.markup import escape

    return escape(printable(text))


def echo(text: object, *, err: bool = False) -> None:
    """A line, printable, on stdout or stderr."""
    typer.echo(printable(str(text)), err=err)


def complain(message: str) -> None:
    """An error, on stderr."""
    if events.wanted():
        events.say("error", message=message)
        return
    _console(stderr=True).print(
        "[bold red]error:[/] ", escaped(message), sep="", soft_wrap=True, highlight=False
    )


def warn(message: str) -> None:
    """What may mislead, on stderr."""
    if events.wanted():
        events.say("warning", message=message)
        return
    _console(stderr=True).print(
        "[bold yellow]warning:[/] ", escaped(message), sep="", soft_wrap=True, highlight=False
    )


def print_json(data: Any) -> None:
    """A document on stdout."""
    typer.echo(json_text(json.dumps(data, indent=2, ensure_ascii=False, default=str)))


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Ctrl-C, and the SIGTERM of a scheduler, end the command with 130 and a word on what is kept."""
    import signal

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if events.wanted():
            events.say("interrupted", message=message)
            raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
        _console(stderr=True).print(f"\n[yellow]{escaped(message)}[/]", soft_wrap=True, highlight=False)
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def scoring(steps: Iterator[Notice | Progress | Summary], progress: bool) -> Summary:
    """Drive a run to its end; the bar shows rate and time left, and the first failure is said at once."""
    from kneerisk.scoring.chain import Notice
    from kneerisk.scoring.outputs.summary import Summary

    last, failure = None, None
    with meter(progress and not events.wanted(), "looking for images", "images") as tell:
        for step in steps:
            if isinstance(step, Summary):
                last = step
                events.say("finished", **step.to_json())
                continue
            if isinstance(step, Notice):
                warn(step.message)
                continue
            note = f"{step.rows - step.not_ok} knees scored"
            if step.not_ok:
                note += f", {step.not_ok} refused or failed"
            if step.reused:
                note += f", {step.reused} images from before"
            tell("scoring", step.done, step.total, note, reused=step.reused)
            events.progress(step)
            if step.first_failure is not None and failure is None:
                failure = step.first_failure
                warn(f"the first file that failed: {failure}; the run goes on")
    assert last is not None
    return last


def validating(steps: Iterator[Validation], progress: bool) -> Validation:
    """Drive a validation to its end."""
    found = None
    with meter(progress, "looking for images", "images") as tell:
        for found in steps:
            tell("looked at", found.images, note=f"{found.knees} knees")
    assert found is not None
    return found


def summary(result: Summary, *, as_json: bool, quiet: bool) -> None:
    """The end of a run, for a person or a program."""
    if as_json:
        print_json(result.to_json())
    if as_json or quiet:
        return
    out = _console()
    if result.rows == 0:
        out.print("[bold]No image was found, and no table was written.[/]")
        _counts(out, "passed over", result.skipped)
        out.print(
            "Give a folder with DICOM, PNG, JPEG or TIFF files, or a manifest with a column called path."
        )
        return
    for alarm in result.alarms:
        out.print(f"[bold red]alarm:[/] {escaped(alarm.message)}", soft_wrap=True, highlight=False)
        if alarm.code in result.answered:
            out.print(
                "  The knees that --calibration was fitted to raised it too: risk_12m allows for it, the "
                "other columns do not.",
                soft_wrap=True,
                highlight=False,
            )
    head = f"[bold]{result.ok} knees scored[/] of {result.images} images"
    if result.seconds and not result.reused:
        head += f" in {duration(result.seconds)} ({result.ok / result.seconds:.1f} knees/s)"
    out.print(head, highlight=False)
    for count, word in ((result.refused, "refused"), (result.failed, "failed")):
        if count:
            out.print(f"{count} {word}", highlight=False)
    out.print(_files(result), style="dim", highlight=False)
    _counts(out, "why", result.reasons)
    _counts(out, "quality flags", result.qc_flags)
    _counts(out, "passed over", result.skipped)
    if result.ok:
        _risks(out, result)
    out.print(f"\n[bold]{escaped(result.out)}[/]: {result.rows} rows", highlight=False, soft_wrap=True)
    for hint in _next_steps(result):
        out.print(f"  {escaped(hint)}", highlight=False, soft_wrap=True)
    out.print("Research use only, not a diagnosis.", style="dim")


def validation(found: Validation, *, as_json: bool, quiet: bool) -> None:
    """What a validation found."""
    if as_json:
        print_json(
            {
                "images": found.images,
                "knees": found.knees,
                "reasons": dict(found.reasons.most_common()),
                "qc_flags": dict(found.qc_flags.most_common()),
                "knees_without_spacing": found.without_spacing,
                "knees_without_participant": found.without_participant,
                "doubt": found.doubt,
                "skipped": dict(found.skipped),
                "problems": [
                    dict(zip(("source_path", "reason", "message"), p, strict=True)) for p in found.problems
                ],
                "exit_code": int(found.exit_code),
            }
        )
    if as_json or quiet:
        return
    if found.doubt is not None:
        warn(found.doubt)
    out = _console()
    out.print(f"[bold]{found.knees} knees would be scored[/], of {found.images} images", highlight=False)
    if found.without_spacing:
        out.print(
            f"{found.without_spacing} without pixel spacing: their joint space has no mm (see --spacing-mm)",
            highlight=False,
        )
    if found.without_participant:
        out.print(f"{found.without_participant} without a participant's id (see --id-from)", highlight=False)
    _counts(out, "would not be scored", found.reasons)
    _counts(out, "quality flags", found.qc_flags)
    _counts(out, "passed over", found.skipped)
    for path, reason, message in found.problems[:20]:
        out.print(
            f"  {escaped(path)}: [yellow]{reason}[/] {escaped(message)}", highlight=False, soft_wrap=True
        )
    if len(found.problems) > 20:
        out.print(f"  … and {len(found.problems) - 20} more: --json lists them all", highlight=False)


def pairs(entries: Sequence[tuple[str, str]]) -> None:
    """Names and what they are, in two columns."""
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in entries:
        table.add_row(escaped(name), escaped(value))
    _console().print(table)


def blocks(entries: Sequence[tuple[str, str]]) -> None:
    """Names too long for a column, whole and to be copied, with what they are below them."""
    from rich.padding import Padding

    out = _console()
    for name, value in entries:
        out.print(f"[bold]{escaped(name)}[/]", soft_wrap=True, highlight=False)
        out.print(Padding(escaped(value), (0, 0, 0, 2)), highlight=False)


def dictionary(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """A table's columns; below each the codes that it may hold."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("column", style="bold", no_wrap=True)
    table.add_column("unit", style="dim", no_wrap=True)
    table.add_column("meaning", overflow="fold")
    table.add_column("null", style="dim", overflow="fold")
    for name, entry in entries.items():
        row = (name, entry["unit"] or entry["kind"], entry["meaning"], entry["null"])
        table.add_row(*map(escaped, row))
        for value, meaning in entry.get("values", {}).items():
            table.add_row("", "", f"[bold]{escaped(value)}[/]: {escaped(meaning)}", "")
    _console().print(table)


def checks(findings: Findings) -> None:
    """What a doctor found."""
    out = _console()
    for check in findings.checks:
        mark = "[green]ok[/]  " if check.ok else "[bold red]no[/]  " if check.needed else "[yellow]--[/]  "
        remedy = f"; {check.remedy}" if check.remedy and not check.ok else ""
        out.print(
            f"{mark}[bold]{escaped(check.name)}[/]: {escaped(check.found + remedy)}",
            highlight=False,
            soft_wrap=True,
        )
    word = (
        "[bold green]ready to score[/]"
        if findings.ready
        else "[bold red]not ready to score[/]: see the lines marked no"
    )
    out.print(word, highlight=False)


def _files(result: Summary) -> str:
    """Where each file went: the parts add up to the whole."""
    parts = {
        "scored": result.images_scored,
        "refused": result.images_refused,
        "failed": result.images_failed,
        "passed over": sum(result.skipped.values()),
        "left to other shards or runs": result.left,
    }
    listed = ", ".join(f"{count} {word}" for word, count in parts.items() if count or word == "scored")
    return f"{result.seen} files seen: {listed}"


def _risks(out: Console, result: Summary) -> None:
    from rich.table import Table

    grades = "  ".join(f"KL {grade}: {count}" for grade, count in result.kl_now.items())
    out.print(f"\n[bold]Grades now[/]  {grades}", highlight=False)
    q = result.risk_quantiles
    out.print(
        f"[bold]12-month risk of progression[/]  mean {_percent(result.mean_risk)}, "
        f"median {_percent(q[50])}, middle 90 % {_percent(q[5])} to {_percent(q[95])}",
        highlight=False,
    )
    out.print(f"calibrated to: {escaped(result.population)}", style="dim", highlight=False)
    table = Table(
        title="Highest risks", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    for name in ("participant", "side", "KL now", "reader's", "risk", "image"):
        table.add_column(
            name, justify="right" if name == "risk" else "left", header_style="dim", overflow="fold"
        )
    for top in result.top:
        participant = "-" if top.participant_id is None else escaped(top.participant_id)
        table.add_row(
            participant,
            top.side,
            str(top.kl_now),
            "-" if top.kl_0m is None else str(top.kl_0m),
            _percent(top.risk_12m),
            escaped(top.source_path),
        )
    out.print(table)


def _next_steps(result: Summary) -> Iterator[str]:
    if result.failed:
        yield "failed rows: their message says what to mend; then run again with --retry-failed"
    if result.refused:
        yield "refused rows: column reason and message say why"
    if result.ok:
        yield "its metadata explains each column; --previews DIR shows each knee and its forecast"


def _counts(out: Console, title: str, counts: Mapping[str, int]) -> None:
    if counts:
        listed = ", ".join(f"{escaped(str(name))} {count}" for name, count in counts.items())
        out.print(f"  [dim]{title}:[/] {listed}", highlight=False, soft_wrap=True)


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
