"""``kneerisk compile`` and ``kneerisk engines``, with real builds for chips that are not here."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneerisk.cli.app import app
from kneerisk.errors import ExitCode
from kneerisk.stack.stack import Stack

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX builds engines without a GPU")
RTX = ("compile", "--flavour", "tensorrt-rtx", "--gpu", "sm80,sm89,sm120")
NETWORKS = [name for name in Stack.load("compact").description.components if name != "decoder"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KNEERISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("kneerisk.compile.build.find_gpu", lambda: None)
    return tmp_path / "cache"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def error_of(*arguments: object) -> tuple[int, str]:
    error = CliRunner().invoke(app, [str(a) for a in arguments]).exception
    return getattr(error, "exit_code", None), str(error)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_precisions_that_no_engine_is_built_in_are_not_offered(precision: str) -> None:
    result = CliRunner().invoke(app, [*RTX, "--precision", precision])
    assert result.exit_code == ExitCode.USAGE
    assert precision in result.output
    assert "fp16" in result.output


def test_compile_without_onnx_names_the_extra(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, message = error_of("compile", "--onnx-only", tmp_path / "graphs")
    assert code == ExitCode.NO_ENGINE
    assert "onnx" in message
    assert "kneerisk[rtx]" in message


def test_engines_are_built_once_listed_carried_and_removed(root: Path, tmp_path: Path) -> None:
    built = json.loads(run(*RTX, "--json"))
    assert [outcome["component"] for outcome in built] == NETWORKS
    assert {outcome["state"] for outcome in built} == {"built"}
    assert {outcome["precision"] for outcome in built if outcome["component"] != "encoder"} == {"fp16"}
    again = json.loads(run(*RTX, "--json"))
    assert {outcome["state"] for outcome in again} == {"found"}
    assert [outcome["place"] for outcome in again] == [outcome["place"] for outcome in built]
    listed = json.loads(run("engines", "list", "--json"))
    assert len(listed) == len(built)
    assert all(entry["key"]["targets"] == ["sm120", "sm80", "sm89"] for entry in listed)
    assert not any(entry["verified"] for entry in listed)
    assert f"{len(NETWORKS)} engines are what their manifests say" in run("engines", "verify")
    run("engines", "export", tmp_path / "engines.tar", "unet", "encoder")
    run("engines", "prune", "--all")
    assert json.loads(run("engines", "list", "--json")) == []
    assert len(run("engines", "import", tmp_path / "engines.tar").splitlines()) == 2

    plan = next(root.glob("engines/unet-*/plan"))
    plan.write_bytes(plan.read_bytes()[:-1])
    broken = CliRunner().invoke(app, ["engines", "verify"])
    assert broken.exit_code == 6
    assert "its manifest says" in broken.output
    assert "unet" in run("engines", "prune", "--damaged")
    assert "1 engines" in run("engines", "verify")


def test_typed_graphs_are_written_where_asked(root: Path, tmp_path: Path) -> None:
    run("compile", "--onnx-only", tmp_path / "graphs", "--precision", "bf16", "--with-decoder")
    names = sorted(path.name for path in (tmp_path / "graphs").iterdir())
    assert "encoder.fp32.onnx" in names
    assert "unet.bf16.onnx" in names
    assert len(names) == len(NETWORKS) + 1
    assert not root.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("compile",), 5, "no NVIDIA GPU here"),
        (("compile", "--gpu", "portable"), 2, "--gpu portable is for --flavour tensorrt-rtx"),
        (("compile", "--flavour", "tensorrt-rtx", "--gpu", "sm90"), 2, "cannot be told to build for sm90"),
        ((*RTX, "--max-batch", "4", "--opt-batch", "8"), 2, "1 ≤ min ≤ opt ≤ max"),
        ((*RTX, "--stack", "nonesuch"), 1, "no stack 'nonesuch'"),
        (("engines", "prune"), 2, "--all, --damaged or --failures"),
        (("engines", "export", "x.tar"), 5, "no engine to export"),
        (("engines", "import", "x.tar"), 5, "is no bundle of engines"),
    ],
)
def test_what_cannot_be_done_says_why(
    root: Path,
    arguments: tuple[str, ...],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, words = error_of(*arguments)
    assert said in words
    assert found == code
    assert not list(tmp_path.glob("**/plan"))
    assert not list(tmp_path.glob("*.tar"))
