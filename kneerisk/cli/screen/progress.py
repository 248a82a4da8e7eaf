"""How far a command has come, on stderr: a bar on a terminal, elsewhere a plain line every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

LINE_SECONDS = 5.0
"""Between two lines in a log, for the first minutes; then `_LATER_SECONDS`."""
_LATER_SECONDS, _FIRST_MINUTES = 30.0, 5


class Tell(Protocol):
    """What a command calls as it goes."""

    def __call__(
        self, what: str, done: int, total: int | None = None, note: str = "", *, reused: int = 0
    ) -> None:
        """Say how far it is.

        Args:
            what: is done now, such as "scoring".
            done: how many things.
            total: of how many; ``None`` where nobody knows yet.
            note: what came of them.
            reused: how many of ``done`` an earlier run had done.
        """


@dataclass(slots=True)
class Pace:
    """How far, and how fast: the mean since the first word, so that a last few quick ones tell no lie."""

    what: str
    unit: str
    done: int = 0
    total: int | None = None
    note: str = ""
    _work: int = 0
    _first: tuple[float, int] | None = None

    def update(self, now: float, what: str, done: int, total: int | None, note: str, reused: int) -> None:
        """Take a word at a time, in seconds of any clock."""
        self.what, self.done, self.total, self.note = what, done, total, note
        self._work = done - reused
        if self._first is None:
            self._first = now, self._work

    def rate(self, now: float) -> float | None:
        """Things a second; ``None`` while nothing can be said."""
        if self._first is None:
            return None
        seconds, work = now - self._first[0], self._work - self._first[1]
        return work / seconds if work > 0 and seconds > 0 else None

    def left(self, now: float) -> float | None:
        """Seconds to the end, at that rate."""
        rate = self.rate(now)
        return None if rate is None or self.total is None else (self.total - self.done) / rate

    def line(self, now: float) -> str:
        """All of it in words."""
        parts = [self.what]
        if self._first is not None:
            of = "" if self.total is None else f" of {self.total}"
            parts[0] += f" {self.done}{of} {self.unit}"
        if (rate := self.rate(now)) is not None:
            parts.append(f"{rate:.1f} a second")
        if (left := self.left(now)) is not None and self.done != self.total:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts) + (f"; {self.note}" if self.note else "")


def duration(seconds: float) -> str:
    """Seconds in a person's words, such as "3 min 20 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
    )


@contextmanager
def meter(shown: bool, what: str, unit: str) -> Iterator[Tell]:
    """Show how far the work inside the block is, or nothing at all."""
    from rich.console import Console

    pace = Pace(what, unit)
    console = Console(stderr=True)
    if not shown:
        show = _nothing()
    elif console.is_terminal and not console.is_dumb_terminal:
        show = _bar(pace, console)
    else:
        show = _lines(pace)
    with show as changed:

        def tell(what: str, done: int, total: int | None = None, note: str = "", *, reused: int = 0) -> None:
            pace.update(time.monotonic(), what, done, total, note, reused)
            changed()

        yield tell


@contextmanager
def _nothing() -> Iterator[Callable[[], None]]:
    yield lambda: None


@contextmanager
def _lines(pace: Pace) -> Iterator[Callable[[], None]]:
    """From a thread, so that a long wait (a scan of a share, a slow file) is not taken for the end."""
    began = time.monotonic()
    ended = threading.Event()

    told = ""

    def tell(*, anew: bool = True) -> None:
        nonlocal told
        line = pace.line(time.monotonic())
        if anew or line != told:
            typer.echo(line, err=True)
        told = line

    def every_few_seconds() -> None:
        while not ended.wait(
            LINE_SECONDS if time.monotonic() - began < 60 * _FIRST_MINUTES else _LATER_SECONDS
        ):
            tell()

    thread = threading.Thread(target=every_few_seconds, daemon=True, name="kneerisk-progress")
    thread.start()
    try:
        yield lambda: None
    finally:
        ended.set()
        thread.join()
        if time.monotonic() - began >= LINE_SECONDS:
            tell(anew=False)


@contextmanager
def _bar(pace: Pace, console: Console) -> Iterator[Callable[[], None]]:
    with bar_of(console) as bar:
        task = bar.add_task(pace.what, total=None, unit=pace.unit, rate="", left="", note="")

        def changed() -> None:
            now = time.monotonic()
            rate, left = pace.rate(now), pace.left(now)
            bar.update(
                task,
                description=pace.what,
                total=pace.total,
                completed=pace.done,
                rate="" if rate is None else f"{rate:.1f}/s",
                left="" if left is None or pace.done == pace.total else f"{duration(left)} left",
                note=pace.note,
            )

        yield changed


def bar_of(console: Console) -> Bar:
    """One line, however narrow the terminal: what does not fit is cut at its end."""
    from rich import progress
    from rich.table import Column

    def column(text: str, style: str = "none", *, cut: bool = False) -> progress.TextColumn:
        room = Column(no_wrap=True, overflow="ellipsis", ratio=1) if cut else Column(no_wrap=True)
        return progress.TextColumn(text, style=style, table_column=room)

    return progress.Progress(
        progress.SpinnerColumn(),
        column("{task.description}"),
        progress.BarColumn(bar_width=max(4, min(28, console.width - 72))),
        progress.MofNCompleteColumn(table_column=Column(no_wrap=True)),
        column("{task.fields[rate]}", "cyan"),
        column("{task.fields[left]}"),
        column("{task.fields[note]}", "dim", cut=True),
        console=console,
        expand=True,
    )
