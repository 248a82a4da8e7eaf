"""A stack of one's own is removed after a question; the one that came along stays."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kneerisk.cli import main
from kneerisk.errors import ExitCode
from kneerisk.stack.find import available_stacks


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run(*arguments: object, answer: str | None = None) -> int:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return answer is not None

        monkeypatch.setattr(sys, "argv", ["kneerisk", "stack", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", Terminal(answer or ""))
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stacks of the user's, one of them called as the one that came along."""
    for name in ("mine", "compact"):
        folder = tmp_path / "stacks" / name
        folder.mkdir(parents=True)
        (folder / "stack.yaml").write_text("format: 99\n")
    monkeypatch.setenv("KNEERISK_STACKS", str(tmp_path / "stacks"))
    return tmp_path / "stacks"


def test_a_question_comes_first(
    cli: Callable[..., int], own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("remove", "mine", answer="n\n") != 0
    assert (own / "mine").exists()
    assert cli("remove", "mine") == ExitCode.USAGE
    assert "--yes" in capsys.readouterr().err
    assert (own / "mine").exists()
    assert cli("remove", "mine", answer="y\n") == 0
    assert [path.name for path in own.iterdir()] == ["compact"]


def test_the_one_that_came_along_stays(
    cli: Callable[..., int], own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("remove", "compact", "--yes") == 0
    said = capsys.readouterr().out.replace("\n", "")
    shipped = available_stacks()["compact"]
    assert f"--stack compact now means {shipped}" in said
    assert cli("remove", "compact", "--yes") == ExitCode.FATAL
    assert "came with kneerisk" in " ".join(capsys.readouterr().err.split())
    assert (shipped / "stack.yaml").exists()


@pytest.mark.parametrize("name", ["nobody", "stacks/mine", "..", ""])
def test_only_a_known_name_is_taken(
    name: str, cli: Callable[..., int], own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("remove", name, "--yes") == ExitCode.FATAL
    assert "your own are" in " ".join(capsys.readouterr().err.split())
    assert sorted(path.name for path in own.iterdir()) == ["compact", "mine"]
