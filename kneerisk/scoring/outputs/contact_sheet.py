"""The page beside the previews: every knee's picture, to sort, search and look through by keyboard."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from kneerisk.radiograph import flags
from kneerisk.scoring.outputs.previews import file_name
from kneerisk.scoring.outputs.rows import Row
from kneerisk.scoring.outputs.table import replace_with


class ContactSheet:
    """Takes the rows of a run as they pass into the table, and writes the page at last.

    The page needs nothing but itself and the pictures that lie beside it.
    """

    def __init__(self, folder: Path, name: str = "index") -> None:
        """Make an empty one.

        Args:
            folder: of the previews.
            name: the page's, without ``.html``; shards that share a folder have one each.
        """
        self._path = folder / f"{name}.html"
        self._knees: list[dict[str, Any]] = []

    def add(self, row: Row) -> None:
        """Take one row; only a scored knee has a picture."""
        if row["status"] != "ok":
            return
        participant, visit, side, source = (
            row[name] for name in ("participant_id", "visit", "side", "source_path")
        )
        check, noted = flags.apart(row["qc_flags"])
        self._knees.append(
            {
                "picture": file_name(row["image_index"], participant, visit, side, source),
                "participant": participant,
                "visit": visit,
                "side": side,
                "source": source,
                "kl": row["kl_now"],
                "reader": row["kl_0m"],
                "risk": row["risk_12m"],
                "check": check,
                "noted": noted,
            }
        )

    def write(self, table: str, alarms: list[str]) -> None:
        """Write the page; nothing where no knee was scored.

        Args:
            table: name of the table that the knees are rows of.
            alarms: what puts that table in doubt, to be said first.
        """
        if not self._knees:
            return
        page = (files("kneerisk.scoring.outputs") / "contact_sheet.html").read_text("utf-8")
        said = "".join(f'<p class="alarm"><strong>Alarm:</strong> {escape(alarm)}</p>' for alarm in alarms)
        # "<" alone could end the script that holds the data.
        data = json.dumps(self._knees, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        for mark, text in (("TABLE", escape(table)), ("ALARMS", said), ("KNEES", data)):
            page = page.replace(f"<!--{mark}-->", text)
        aside = self._path.with_name(f"{self._path.name}.new")
        aside.write_text(page, "utf-8")
        replace_with(aside, self._path)
