"""Whether two score tables have the same rows: ``python benchmarks/same_rows.py BEFORE AFTER``.

A change that should change no row is tried on a cohort before and after.  Columns that say what made a row
(version, hashes of the stack and its engines) may differ and are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

PROVENANCE = ("kneerisk_version", "stack", "stack_sha256", "engine_key")


def differences(before: pl.DataFrame, after: pl.DataFrame) -> list[str]:
    """What differs, a line each: columns that came or went, the number of rows, values by column."""
    found = []
    if gone := sorted(set(before.columns) - set(after.columns)):
        found.append(f"columns gone: {', '.join(gone)}")
    if come := sorted(set(after.columns) - set(before.columns)):
        found.append(f"columns come: {', '.join(come)}")
    if before.height != after.height:
        return [*found, f"rows: {before.height} before, {after.height} after"]
    for name in before.columns:
        if name in PROVENANCE or name not in after.columns:
            continue
        old, new = before[name], after[name]
        changed = (old != new).fill_null(old.is_null() != new.is_null()) if old.dtype == new.dtype else None
        if changed is None:
            found.append(f"{name}: {old.dtype} before, {new.dtype} after")
        elif count := int(changed.sum()):
            largest = f", by {(old - new).abs().max():.3g} at most" if old.dtype.is_numeric() else ""
            found.append(f"{name}: {count} of {before.height} rows{largest}")
    return found


def main() -> int:
    """Compare the two tables that the command line names; 1 where they differ."""
    before, after = (pl.read_parquet(Path(name)) for name in sys.argv[1:3])
    found = differences(before, after)
    print("\n".join(found) if found else f"the same {before.height} rows")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
