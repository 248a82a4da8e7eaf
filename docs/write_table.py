"""Write docs/table.md from the code's own dictionary of columns, flags and reasons.

Usage: python docs/write_table.py (or make docs)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from kneerisk.errors import Reason
from kneerisk.method.predict import UNUSUAL_APPEARANCE, VERY_UNUSUAL_APPEARANCE
from kneerisk.radiograph import flags
from kneerisk.scoring.outputs.columns import COLUMNS, Column

PAGE = Path(__file__).parent / "table.md"
SECTIONS = {
    "participant_id": ("Whose knee", ""),
    "status": ("Was it scored", ""),
    "kl_0m": (
        "Grades",
        "Kellgren-Lawrence (KL) grades run from 0, no sign of osteoarthritis, to 4, severe. Readers often "
        "disagree by one, about grade 1 most of all.",
    ),
    "risk_12m": (
        "Risks",
        "The outcome is any rise of the KL grade within 12 months, as readers see it. 0 → 1 counts. Knees of "
        "grade 4 cannot rise: leave them out.",
    ),
    "lm_now_T0_x": (
        "Landmarks and joint space",
        "Sixteen points on the edges of the joint, from lateral to medial: `T0` to `T8` on the tibia, `F0` "
        "to `F6` on the femur.",
    ),
    "stack": ("What made the row", ""),
}
"""First column of a section → its heading, and what to know before it."""

_HEAD = """# What do the columns of the table mean?

*Written by `make docs` from the code's own dictionary; edit that, not this page.*

The table has a row for each knee, and a row for each image that holds none to score. These meanings also
travel in the table itself: in a Parquet file's metadata, or in the `.json` beside a CSV
([how to read them](python.md#reading-a-table-again)). A manifest's own columns follow behind these.
"""
_NUMBERED = re.compile(r"_p[0-4]$|_[TF]\d_[xy]$")


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for heading, note, columns in _sections():
        parts.append(f"## {heading}\n")
        parts += [f"{note}\n"] if note else []
        parts += ["| column | type | unit | meaning | empty |", "|---|---|---|---|---|"]
        parts += [*_rows(columns), ""]
    parts += ["## Quality flags", "", "What `qc_flags` may hold. A flagged knee was scored all the same.", ""]
    meanings = {
        **flags.MEANINGS,
        UNUSUAL_APPEARANCE: "the knee looks unlike those that the networks were trained on",
        VERY_UNUSUAL_APPEARANCE: "it looks far from them: look at the image, it may be no frontal knee",
    }
    parts += ["| flag | meaning |", "|---|---|"]
    parts += [f"| `{flag}` | {meaning} |" for flag, meaning in meanings.items()]
    parts += [
        "",
        "## Reasons",
        "",
        "What `reason` may hold; `message` says it in words, with what to do.",
        "",
    ]
    for status, failed in (("refused", False), ("failed", True)):
        codes = ", ".join(f"`{reason.value}`" for reason in Reason if reason.is_failure is failed)
        parts.append(f"- `{status}`: {codes}.")
    return "\n".join(parts) + "\n"


def _sections() -> Iterator[tuple[str, str, list[Column]]]:
    missing = SECTIONS.keys() - {column.name for column in COLUMNS}
    if missing or COLUMNS[0].name not in SECTIONS:
        raise SystemExit(f"SECTIONS of {__file__} begin at columns that there are not: {sorted(missing)}")
    found: list[tuple[str, str, list[Column]]] = []
    for column in COLUMNS:
        if column.name in SECTIONS:
            found.append((*SECTIONS[column.name], []))
        found[-1][2].append(column)
    yield from found


def _rows(columns: list[Column]) -> Iterator[str]:
    """One row for each column; columns that are numbered through share one."""
    for _, run in groupby(columns, key=lambda c: (_NUMBERED.sub("", c.name), bool(_NUMBERED.search(c.name)))):
        first, *others = run
        names, meaning = f"`{first.name}`", first.meaning
        if others:
            names += f" … `{others[-1].name}`"
            meaning += ", and so on"
        kind = "list of text" if first.kind == "texts" else first.kind
        yield f"| {names} | {kind} | {first.unit} | {meaning} | {first.null} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
