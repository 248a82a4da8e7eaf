"""Where every table row, image and knee went: sections whose counts must add up to what came in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kneerisk.errors import KneeriskError

_EXAMPLES = 5


class Ledger:
    """Counts what became of the members of each section, with the first few of each kind by name."""

    def __init__(self) -> None:
        self._totals: Counter[str] = Counter()
        self._counts: dict[str, Counter[str]] = {}
        self._examples: dict[str, dict[str, list[str]]] = {}

    def expect(self, section: str, count: int = 1) -> None:
        """So many more came in; counted where they enter, apart from where they end."""
        self._totals[section] += count
        self._counts.setdefault(section, Counter())

    def add(self, section: str, outcome: str, example: str | None = None) -> None:
        """One of them ended here."""
        self._counts.setdefault(section, Counter())[outcome] += 1
        if example is not None:
            listed = self._examples.setdefault(section, {}).setdefault(outcome, [])
            if len(listed) < _EXAMPLES:
                listed.append(example)

    def count(self, section: str, outcome: str) -> int:
        """How many of a section ended so."""
        return self._counts.get(section, Counter())[outcome]

    def sections(self) -> dict[str, tuple[int, dict[str, int]]]:
        """Section → how many came in, and what became of them, the most frequent first.

        Raises:
            KneeriskError: the counts of a section do not add up, which is an error of this program.
        """
        for section, counts in self._counts.items():
            if counts.total() != self._totals[section]:
                raise KneeriskError(
                    f"the summary does not add up: of {self._totals[section]} {section}, "
                    f"{counts.total()} are accounted for; this is an error of kneerisk: report it"
                )
        return {
            section: (self._totals[section], dict(sorted(counts.items(), key=lambda c: (-c[1], c[0]))))
            for section, counts in self._counts.items()
        }

    def to_json(self) -> dict[str, Any]:
        """All sections as plain values."""
        return {
            section: {"total": total, "counts": counts, "examples": self._examples.get(section, {})}
            for section, (total, counts) in self.sections().items()
        }
