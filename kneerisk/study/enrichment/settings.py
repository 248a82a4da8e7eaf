"""What ``kneerisk enrich`` is asked, checked when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.scoring.outputs.table import format_of
from kneerisk.study.enrichment.sample_size import Trial
from kneerisk.study.enrichment.selection import Rule
from kneerisk.study.outcomes import Outcome

_RISK = re.compile(r"risk_(?:(?P<outcome>[a-z0-9_]+?)_)?(?P<months>\d+)m(?:_image|_sum)?$")


@dataclass(frozen=True, slots=True)
class EnrichSettings:
    """What is asked of a score table; checked when it is made."""

    table: Path
    labels: Path | None = None
    risk: str = "risk_12m"
    rule: Rule | None = None
    """``None``: the curve alone."""
    trial: Trial = field(default_factory=Trial)
    one_knee: bool = False
    visit: str | None = None
    outcome: Outcome | None = None
    """``None``: the one that ``risk`` is named after."""
    months: int | None = None
    bootstrap: int = 1000
    confidence: float = 0.95
    seed: int = 0
    out: Path | None = None
    """The list of those selected."""
    curve: Path | None = None
    plot: Path | None = None
    allow_unmatched: bool = False
    """Whether knees of the labels may be missing from the score table."""
    overwrite: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.out is not None and self.rule is None:
            raise UsageError(
                "--out lists those selected, and nothing says whom to select: give --threshold, --top, "
                "--top-fraction or --recruit"
            )
        for path in (self.out, self.curve):
            if path is not None:
                format_of(path)
        if self.allow_unmatched and self.labels is None:
            raise UsageError("--allow-unmatched is about --labels: give both, or neither")
        if self.bootstrap < 0:
            raise UsageError(f"--bootstrap must be 0 or more; got {self.bootstrap}")
        if not 0 < self.confidence < 1:
            raise UsageError(f"--confidence lies between 0 and 1; got {self.confidence}")
        if self.plot is not None and self.plot.suffix.lower() not in (".svg", ".png"):
            raise UsageError(f"--plot writes .svg or .png; got {self.plot.name}")

    @property
    def asked(self) -> tuple[Outcome, int]:
        """Outcome and months: those that ``risk`` is named after, unless they are given.

        Raises:
            UsageError: neither says it, or they contradict each other.
        """
        return _outcome_of(self)


def _outcome_of(settings: EnrichSettings) -> tuple[Outcome, int]:
    match = _RISK.match(settings.risk)
    words = (match["outcome"] or "any_rise").replace("_", "-") if match else ""
    named = (Outcome(words), int(match["months"])) if match and words in set(Outcome) else (None, None)
    outcome, months = settings.outcome or named[0], settings.months or named[1]
    if outcome is None or months is None:
        raise UsageError(f"--risk {settings.risk} does not say of what: add --outcome and --months")
    for given, own, option in ((outcome, named[0], "outcome"), (months, named[1], "months")):
        if own is not None and given != own:
            raise UsageError(
                f"--{option} {given}, but {settings.risk} is the risk of {own}: leave one of them"
            )
    return outcome, months
