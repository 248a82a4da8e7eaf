"""``kneerisk engines list`` in a narrow terminal: names whole, to be copied, and nothing cut."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kneerisk_engines.tensorrt import cache as engine_cache
from kneerisk_engines.tensorrt.key import EngineKey

from kneerisk.cli import main

KEY = EngineKey(
    "classifier_now", "0" * 64, "1" * 64, (1, 8, 16), "tensorrt-rtx", "1.2.0.54", "fp16", (), "none", True,
    "sm90", "NVIDIA H100 80GB HBM3", 132,
)  # fmt: skip


@dataclass
class Engine:
    key: EngineKey = KEY
    plan_bytes: int = 4_321_000
    built: str = "2026-01-01"
    verified: bool = True
    folder: Path = field(default_factory=lambda: Path("engines", KEY.folder_name))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_list_fits_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def entries(self: Any) -> list[Engine]:
        return [Engine()]

    monkeypatch.setattr(engine_cache.EngineCache, "entries", entries)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "argv", ["kneerisk", "engines", "list"])
    with pytest.raises(SystemExit):
        main()
    name, *rest = capsys.readouterr().out.splitlines()
    assert name == KEY.folder_name
    assert all(line.startswith("  ") and len(line.rstrip()) <= width for line in rest)
    words = " ".join(" ".join(rest).split())
    assert words == "NVIDIA H100 80GB HBM3, tensorrt-rtx 1.2.0.54, batch 1-8-16, 4.3 MB, verified"
    assert len(rest) == (2 if width == 60 else 1)
