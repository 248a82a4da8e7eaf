"""What a scan tells beside the images that it finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from kneerisk.records import CarriedKind

_MAX_LISTED = 1000


@dataclass(slots=True)
class Skipped:
    """What a scan tells beside its images: what it passed over inside folders, and what manifests carry."""

    counts: Counter[str] = field(default_factory=Counter)
    """Files and folders by the reason for passing them over, in full."""
    listed: list[tuple[str, str]] = field(default_factory=list)
    """(source path, reason), the first thousand."""
    carried: dict[str, CarriedKind] = field(default_factory=dict)
    """The manifests' own columns, and of what kind each is; filled before the first image."""

    @property
    def total(self) -> int:
        """How many files and folders were passed over."""
        return self.counts.total()

    def add(self, source_path: str, why: str) -> None:
        """Note one more."""
        self.counts[why] += 1
        if len(self.listed) < _MAX_LISTED:
            self.listed.append((source_path, why))
