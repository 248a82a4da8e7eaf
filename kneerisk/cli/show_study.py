"""What the commands of a study print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kneerisk.cli import show

if TYPE_CHECKING:
    from kneerisk.study.derive import Derived


def derived(done: Derived, *, as_json: bool, quiet: bool) -> None:
    """The end of a derivation."""
    for warning in done.warnings:
        show.warn(warning)
    if as_json:
        show.print_json(done.to_json())
    if as_json or quiet:
        return
    from rich.console import Console
    from rich.markup import escape

    out = Console()
    what = "participants and visits" if done.level == "participant" else "rows"
    out.print(f"[bold]{escape(done.out)}[/]: {done.rows} {what}", highlight=False, soft_wrap=True)
    listed = ", ".join(f"{basis} {count}" for basis, count in done.basis.items())
    out.print(
        f"  [dim]scored knees by what their risks stand on:[/] {listed}", highlight=False, soft_wrap=True
    )
    show.pairs(
        [
            (name, "no knee has it" if mean is None else f"mean {100 * mean:.1f} %")
            for name, mean in done.columns.items()
        ]
    )
    out.print(f"equations: {escape(done.population)}", style="dim", highlight=False, soft_wrap=True)
    for name, population in done.recalibrated.items():
        out.print(
            f"{name} recalibrated to: {escape(population)}",
            style="dim",
            highlight=False,
            soft_wrap=True,
        )
    out.print("Research use only, not a diagnosis.", style="dim")
