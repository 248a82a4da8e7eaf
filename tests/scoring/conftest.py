from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FAKE_CHAIN = Path(__file__).with_name("fake_chain.py")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_chain", FAKE_CHAIN)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_chain"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    return _load()


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Fourteen files: one knee, two knees, none, damaged, no image, and some that break a room."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    for i in range(7):
        (folder / f"P{i:02d}.txt").write_text(f"one {i}")
    (folder / "P07.txt").write_text("both 7")
    (folder / "P08.txt").write_text("empty 8")
    (folder / "P09.txt").write_text("damaged 9")
    (folder / "P10.txt").write_text("raise 10")
    (folder / "P11.bad").write_text("")
    (folder / "P12.txt").write_text("poison 12")
    (folder / "P13.txt").write_text("break 13")
    return folder
