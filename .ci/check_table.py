"""Check a table of examples/cohort: its knees are those of cohort.csv, its values those of expected.csv.

Usage: python .ci/check_table.py TABLE.parquet      (--write notes the table's values as the expected ones)
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import polars as pl

EXAMPLES = Path(__file__).parents[1] / "examples"
NO_KNEES = {"SIM0004/cut-off.dcm", "SIM0005/hand.dcm"}
KEYS = ("source_path", "side")
# What may differ between processors and runtimes in float32, and not what a fault would change.
TOLERANCE = {
    "risk_12m": 0.01,
    "risk_12m_image": 0.01,
    "risk_12m_sum": 0.02,
    "kl_now_p0": 0.03,
    "kl_now_p4": 0.03,
    "novelty": 0.02,
    "lm_now_T4_x": 2.0,
    "lm_12m_F3_y": 2.0,
    "jsw_medial_mm": 0.15,
}
OTHER_GRADES = 1
"""Knees whose grade may be another: one that lies between two."""


def main(table: Path, write: bool) -> None:
    """Compare, and end with a line of what was seen; a difference ends with status 1."""
    rows = pl.read_parquet(table)
    scored = rows.filter(pl.col("status") == "ok").sort(KEYS)
    values = scored.select(*KEYS, "stack", "kl_now", "kl_12m", *TOLERANCE)
    if write:
        values.write_csv(EXAMPLES / "expected.csv", float_precision=4)
    with (EXAMPLES / "cohort.csv").open(newline="") as file:
        knees = {(row["path"].removeprefix("cohort/"), row["side"]) for row in csv.DictReader(file)}
    found = set(scored.select(KEYS).iter_rows())
    others = dict(rows.filter(pl.col("status") != "ok").select("source_path", "reason").iter_rows())
    problems = [f"no score for {path} {side}" for path, side in sorted(knees - found)]
    problems += [f"a score for {path} {side}, which is no knee" for path, side in sorted(found - knees)]
    problems += [f"not scored: {others}, expected: {NO_KNEES}"] if set(others) != NO_KNEES else []
    problems += [f"no reason for {path}" for path, reason in others.items() if not reason]
    problems += differences(values, pl.read_csv(EXAMPLES / "expected.csv"))
    if problems:
        raise SystemExit("\n".join(problems))
    print(
        f"examples/cohort: {len(found)} knees scored as examples/expected.csv has them, {len(others)} files "
        "without a score, as expected"
    )


def differences(values: pl.DataFrame, expected: pl.DataFrame) -> list[str]:
    """What differs by more than it may, a line each."""
    both = values.join(expected, on=KEYS, how="full", suffix="_expected", coalesce=True)
    lines = []
    if set(values["stack"]) != set(expected["stack"]):
        lines.append(f"scored by {set(values['stack'])}, expected {set(expected['stack'])}")
    for name in ("kl_now", "kl_12m"):
        other = both.filter(pl.col(name).ne_missing(pl.col(f"{name}_expected")))
        if len(other) > OTHER_GRADES:
            lines.append(f"{name} is another for {len(other)} knees: {other['source_path'].to_list()}")
    for name, most in TOLERANCE.items():
        apart = (pl.col(name) - pl.col(f"{name}_expected")).abs()
        known = both.filter(pl.col(name).is_null() != pl.col(f"{name}_expected").is_null())
        lines += [f"{name} is there for one alone: {path}" for path in known["source_path"]]
        far = both.filter(apart > most)
        lines += [
            f"{row['source_path']} {row['side']}: {name} {row[name]:.4f}, not {row[f'{name}_expected']:.4f}"
            for row in far.iter_rows(named=True)
        ]
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    main(asked.table, asked.write)
