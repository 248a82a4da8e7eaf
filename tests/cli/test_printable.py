"""What others wrote is printed as text, never as a terminal's command or as markup."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from kneerisk.cli import show
from kneerisk.cli.show import escaped
from kneerisk.printable import json_text, printable

HOSTILE = "a\x1b[2Jb\x07\r\x08\x9b31m\u202egpj.exe\u2066\x7f\udcff\u2028[bold]x[/bold][/]\\"
COMMANDS = {*"\x1b\x07\r\x08\x9b\u202e\u2066\x7f\udcff\u2028"}


def test_a_text_is_spelt_out_and_plain_text_kept() -> None:
    assert not COMMANDS & set(printable(HOSTILE))
    assert printable(HOSTILE).startswith(r"a\x1b[2Jb\x07\r\x08\x9b31m\u202egpj.exe\u2066\x7f\udcff\u2028")
    for plain in ("Ünïcode µ × 12 °", "two\nlines\tand a tab", "[bold]"):
        assert printable(plain) == plain


def test_markup_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=200).print(f"[red]{escaped(HOSTILE)}[/]", soft_wrap=True)
    printed = capsys.readouterr().out
    assert "[bold]x[/bold][/]\\" in printed and not COMMANDS & set(printed)


def test_json_means_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.dumps({HOSTILE: [HOSTILE]}, ensure_ascii=False)
    assert json.loads(json_text(document)) == {HOSTILE: [HOSTILE]}
    show.print_json({"name": HOSTILE})
    printed = capsys.readouterr().out
    assert not COMMANDS & set(printed) and json.loads(printed) == {"name": HOSTILE}


def test_a_file_name_reaches_no_terminal(
    cli: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "x\x1b[2J\x1b]0;owned\x07[red].dcm"
    assert cli("score", missing, "--out", tmp_path / "r.csv") == 2
    assert cli("validate", missing) == 2
    printed = capsys.readouterr()
    assert r"\x1b[2J" in printed.err and "[red]" in printed.err
    assert not COMMANDS & set(printed.out + printed.err)
