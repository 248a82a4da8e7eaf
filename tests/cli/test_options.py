"""Settings as options: each default stands once, in the settings; a word becomes a value."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from kneerisk.cli import options as o
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.settings import RunSettings, StackSettings
from kneerisk.scoring.shards import Shard


@pytest.fixture
def taken() -> tuple[typer.Typer, dict[str, Any]]:
    got: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @o.takes(data=InputSettings, networks=StackSettings, run=(RunSettings, ("out", "shard")))
    def command(data: InputSettings, networks: StackSettings, run: RunSettings, json: o.Json = False) -> None:
        got.update(data=data, networks=networks, run=run, json=json)

    return app, got


def test_without_options_the_settings_are_their_own_defaults(
    taken: tuple[typer.Typer, dict[str, Any]],
) -> None:
    app, got = taken
    assert CliRunner().invoke(app, ["a", "b"], catch_exceptions=False).exit_code == 0
    assert got == {
        "data": InputSettings((Path("a"), Path("b"))),
        "networks": StackSettings(),
        "run": RunSettings(),
        "json": False,
    }


def test_options_become_fields(taken: tuple[typer.Typer, dict[str, Any]]) -> None:
    app, got = taken
    given = [
        "a",
        "--side",
        "L",
        "--id-from",
        "folder",
        "--steps",
        "3",
        "--upscale",
        "--engine-policy",
        "build",
        "--shard",
        "2/3",
        "--json",
    ]
    assert CliRunner().invoke(app, given, catch_exceptions=False).exit_code == 0
    assert got["data"] == InputSettings((Path("a"),), side="L", id_from="folder")
    assert got["networks"] == StackSettings(steps=3, upscale=True, engine_policy="build")
    assert (got["run"].shard, got["json"]) == (Shard(2, 3), True)


def test_a_field_that_is_no_option_here_is_refused(taken: tuple[typer.Typer, dict[str, Any]]) -> None:
    app, _ = taken
    result = CliRunner().invoke(app, ["a", "--limit", "3"])
    assert result.exit_code == 2


def test_every_field_of_the_settings_has_an_option_and_every_option_a_field() -> None:
    known = {field.name for kind in (InputSettings, StackSettings, RunSettings) for field in fields(kind)}
    assert set(o.OPTIONS) == known
