"""Who trains, who chooses, who tests: participants (or whole sites) fall into splits by seed, and it is kept.

A participant's two knees and all visits stay together. Where a cohort's manifest names splits (as Chen's
does), those are taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kneerisk.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

SPLITS = ("train", "val", "test")
SPLITS_FILE = "splits.csv"


@dataclass(frozen=True)
class SplitConfig:
    """How participants are shared out, where the manifest does not say."""

    seed: int = 0
    val: float = 0.15
    """Share that chooses and calibrates."""
    test: float = 0.15
    """Share that nothing is chosen on."""
    group: str = "participant"
    """``participant``, or ``site``: whole sites together."""
    test_sites: tuple[str, ...] = ()
    """Sites kept for the test; with them ``test`` and ``group`` only share out the others."""

    def __post_init__(self) -> None:
        if self.val <= 0 or self.test < 0 or self.val + self.test >= 1:
            raise ValueError(
                f"val {self.val} and test {self.test} must be shares that leave some for training"
            )
        if self.group not in ("participant", "site"):
            raise ValueError(f"group must be participant or site, not {self.group!r}")


def assign(manifest: pl.DataFrame, config: SplitConfig) -> dict[str, str]:
    """Participant → ``train``, ``val`` or ``test``.

    Args:
        manifest: columns participant_id, site, split (both may be null).
        config: how those without a split are shared out.

    Raises:
        UsageError: a participant is in two splits or, split by site, at two sites; or a split has nobody.
    """
    people = manifest.select("participant_id", "split", "site").unique().sort("participant_id", "split")
    named = people.drop_nulls("split")
    twice = named.select("participant_id", "split").unique().group_by("participant_id").len()
    if len(torn := twice.filter(twice["len"] > 1).sort("participant_id")):
        who = torn["participant_id"][0]
        raise UsageError(
            f"participant {who} is in two splits of the manifest (and {len(torn) - 1} more): "
            "give each participant one, or drop the column split"
        )
    if unknown := sorted(set(named["split"].unique()) - set(SPLITS)):
        raise UsageError(f"split {unknown[0]!r} in the manifest: known are {', '.join(SPLITS)}")
    given = dict(named.select("participant_id", "split").iter_rows())
    if given and (lost := sorted(set(people["participant_id"]) - set(given))):
        raise UsageError(
            f"participant {lost[0]} (and {len(lost) - 1} more) has no split though others have: "
            "fill the column"
        )
    assigned = given or {
        person: _draw(person, site, config) for person, site in _one_site_each(people, config)
    }
    for split in ("train", "val"):
        if split not in assigned.values():
            raise UsageError(
                f"nobody of {len(assigned)} participants falls into the split {split!r}: "
                "use another seed or shares, or a larger cohort"
            )
    return assigned


def keep(assigned: Mapping[str, str], folder: Path) -> str:
    """Store the splits in a run's folder, or check that they are those stored there; returns their hash.

    Raises:
        UsageError: the run was begun with other splits.
    """
    lines = "".join(f"{person},{split}\n" for person, split in sorted(assigned.items()))
    text = f"participant_id,split\n{lines}"
    path = folder / SPLITS_FILE
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise UsageError(
                f"{path} holds other splits than this data and recipe give: a run keeps the splits it began "
                "with; choose a new --out"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    return hashlib.sha256(text.encode()).hexdigest()


def _one_site_each(people: pl.DataFrame, config: SplitConfig) -> list[tuple[str, str | None]]:
    sites: dict[str, str | None] = {}
    for person, site in people.select("participant_id", "site").iter_rows():
        if sites.setdefault(person, site) != site and (config.group == "site" or config.test_sites):
            raise UsageError(f"participant {person} is at two sites, {sites[person]} and {site}")
    if config.group == "site" and None in sites.values():
        raise UsageError("to split by site every participant needs one: the manifest has none for some")
    return sorted(sites.items())


def _draw(person: str, site: str | None, config: SplitConfig) -> str:
    """By a hash, so that no participant's split depends on who else is in the cohort."""
    if site is not None and site in config.test_sites:
        return "test"
    unit = person if config.group == "participant" else str(site)
    digest = hashlib.sha256(f"{config.seed}:{unit}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < config.test:
        return "test"
    return "val" if place < config.test + config.val else "train"
