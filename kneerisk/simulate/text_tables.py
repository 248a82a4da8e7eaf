"""Text tables that grow row by row beside their place, and all move into it at the end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO


class TextTables:
    """Delimited tables below one folder; until :meth:`finish` each is a hidden ``.part`` file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[str, tuple[IO[str], str, int]] = {}

    def start(self, name: str, columns: Sequence[str], delimiter: str = ",") -> None:
        """Begin the table ``name``, a path below the folder, with its header line."""
        aside = self._aside(name)
        aside.parent.mkdir(parents=True, exist_ok=True)
        self._open[name] = (aside.open("w", newline="", encoding="utf-8"), delimiter, len(columns))
        self.add(name, columns)

    def add(self, name: str, cells: Sequence[object]) -> None:
        """Append a row; cells hold neither delimiters nor line ends (ValueError), ``None`` is empty."""
        file, delimiter, width = self._open[name]
        texts = ["" if cell is None else str(cell) for cell in cells]
        if len(texts) != width or any(delimiter in text or "\n" in text for text in texts):
            raise ValueError(f"{name} cannot hold the row {texts}")
        file.write(delimiter.join(texts) + "\r\n")

    def finish(self) -> None:
        """Flush every table to disk and rename it into place."""
        for name, (file, _, _) in self._open.items():
            file.flush()
            os.fsync(file.fileno())
            file.close()
            self._aside(name).replace(self._directory / name)
        self._open.clear()

    def close(self) -> None:
        """Drop the tables that are not finished: after :meth:`finish`, nothing."""
        for name, (file, _, _) in self._open.items():
            with suppress(OSError):  # what is still in its buffer may not fit a full disk
                file.close()
            self._aside(name).unlink(missing_ok=True)
        self._open.clear()

    def _aside(self, name: str) -> Path:
        place = self._directory / name
        return place.with_name(f".{place.name}.part")
