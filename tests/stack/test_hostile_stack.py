"""Stacks as a stranger may hand them over: nothing leaves the root, and every refusal says what is wrong."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kneerisk.errors import ExitCode, StackError, UsageError
from kneerisk.stack.find import STACKS_VARIABLE, find_stack
from kneerisk.stack.stack import CALIBRATION_FILE, MODEL_CARD_FILE, Stack
from kneerisk.stack.write import import_stack

Change = Callable[[dict], object]


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """The shipped stack, copied to where a stranger might have changed it."""
    return Path(shutil.copytree(find_stack("compact"), tmp_path / "given" / "stranger"))


def change(folder: Path, **values: object) -> None:
    path = folder / "stack.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}, sort_keys=False))


def replace(folder: Path, name: str, content: bytes) -> None:
    """Another content of a file, its hash with it."""
    (folder / name).write_bytes(content)
    files = yaml.safe_load((folder / "stack.yaml").read_text())["files"]
    change(folder, files={**files, name: hashlib.sha256(content).hexdigest()})


def listing(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("version", ["1/../../../victim", "../victim", "1\\..\\victim", "", "1\n", "x" * 200])
def test_a_version_is_no_path(stranger: Path, tmp_path: Path, version: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("years of work")
    change(stranger, version=version)
    with pytest.raises(StackError, match="version"):
        import_stack(stranger, tmp_path / "root" / "deep", overwrite=True)
    assert listing(victim) == {"thesis.txt": "years of work"}
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    "name", ["../../victim", "..", ".", "", "a/b", "/abs", ".hidden", "a\x1b[2J", "a\0b"]
)
def test_a_name_is_no_path(stranger: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no path"):
        import_stack(stranger, tmp_path / "root", name=name, overwrite=True)
    assert not (tmp_path / "root").exists()


def test_only_a_stack_gives_way_to_a_stack(stranger: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(StackError, match="is no stack, and is not replaced"):
        import_stack(stranger, root, name="mine", overwrite=True)
    assert listing(root) == {"mine/thesis.txt": "years of work"}
    assert import_stack(stranger, root, name="yours") == root / "yours"
    assert import_stack(stranger, root, name="yours", overwrite=True) == root / "yours"
    assert Stack.load(root / "yours").name == Stack.load("compact").name


@pytest.mark.parametrize("name", ["../outside", "..", "sub/file", "weights.safetensors\0"])
def test_a_stack_lists_files_of_its_own_folder_only(stranger: Path, name: str) -> None:
    files = yaml.safe_load((stranger / "stack.yaml").read_text())["files"]
    change(stranger, files={**files, name: "0" * 64})
    with pytest.raises(StackError, match="lie in its own folder"):
        Stack.load(stranger)


BOMB = "format: 1\na: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


LADDER = list(zip("abcdefghijklmnopqrstu", "bcdefghijklmnopqrstuv", strict=True))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "references followed"),
        ("format: &a [*a]", "refers to its own parts"),
        ("format: *b", "refers to its own parts"),
        ("- &a [x]\n" + "".join(f"- &{new} [*{old}]\n" for old, new in LADDER), "nests more than"),
        ("format: " + "[" * 50_000, "nests more than"),
        ("format: " + "{a: " * 25, "nests more than"),
        ("- " * 20_000, "nests more than"),
        ("format: 1\nx: " + "9" * 5000, "no YAML"),
        ("format: 1\nx: 2020-99-99", "no YAML"),
        ("format: 1\n? [a]\n: b", "no YAML"),
        ("format: [" + "x, " * 200_000, "more than 256 kB"),
        ("a: b: c", "no YAML"),
        ("!!python/object/apply:os.system [ls]", "no YAML"),
        ("\x00", "no YAML"),
        ("", "format"),
    ],
)
def test_yaml_of_a_stranger_costs_a_message(stranger: Path, content: str, words: str) -> None:
    (stranger / "stack.yaml").write_text(content)
    with pytest.raises(StackError, match=words) as told:
        Stack.load(stranger)
    assert len(str(told.value)) < 1000


def test_a_reference_or_two_are_read_as_what_they_stand_for(stranger: Path) -> None:
    """Stacks up to 0.3.0 were published with them."""
    stack = Stack.load(stranger)
    parts = yaml.safe_load((stranger / "stack.yaml").read_text())["components"]
    assert parts["unet"]["outputs"]["velocity"] == parts["encoder"]["outputs"]["latent"]
    parts["unet"]["outputs"]["velocity"] = parts["encoder"]["outputs"]["latent"]
    change(stranger, components=parts)
    assert "*id001" in (stranger / "stack.yaml").read_text()
    assert Stack.load(stranger).description == stack.description


def test_yaml_that_is_no_utf8(stranger: Path) -> None:
    (stranger / "stack.yaml").write_bytes(b"format: \xff\xfe")
    with pytest.raises(StackError, match="UTF-8"):
        Stack.load(stranger)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("crop_size", 10**9), ("samples", 10**12), ("field_of_view_mm", float("inf")), ("steps", 0)],
        *[("micro_batch", float("nan")), ("latent_shape", [4, 100_000, 100_000]), ("version", ["x"] * 5000)],
    ],
)
def test_a_description_keeps_to_bounds(stranger: Path, name: str, value: object) -> None:
    change(stranger, **{name: value})
    with pytest.raises(StackError, match=name) as told:
        Stack.load(stranger)
    assert len(str(told.value)) < 1000


def calibration(change: Change) -> bytes:
    values = json.loads((find_stack("compact") / CALIBRATION_FILE).read_text())
    return json.dumps(values if (changed := change(values)) is None else changed).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"[1, 2]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'{"format": ' + b"9" * 5000 + b"}",
        calibration(lambda c: c.update(rates=[0.1])),
        calibration(lambda c: c.update(rates=7)),
        calibration(lambda c: c.update(rates=[float("nan")] * 5)),
        calibration(lambda c: c.update(hazard="none")),
        calibration(lambda c: c["hazard"].update(slope=float("inf"))),
        calibration(lambda c: c["hazard"].update(slope=-1)),
        calibration(lambda c: c["hazard"].update(intercepts="1234")),
        calibration(lambda c: c.update(novelty_threshold=10**400)),
        calibration(lambda c: c.update(usual=[])),
        calibration(lambda c: c.update(fitted_on=5)),
        b'"' + b"x" * (5 << 20) + b'"',
    ],
)
def test_a_broken_calibration_is_refused_when_it_is_imported(
    stranger: Path, tmp_path: Path, content: bytes
) -> None:
    replace(stranger, CALIBRATION_FILE, content)
    with pytest.raises(StackError, match=r"calibration\.json") as told:
        import_stack(stranger, tmp_path / "root")
    assert len(str(told.value)) < 1000
    assert not (tmp_path / "root").exists()


def test_a_weights_header_longer_than_its_file(stranger: Path) -> None:
    from kneerisk_engines.errors import EngineError
    from kneerisk_engines.weights import locate_weights

    (stranger / "weights.safetensors").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(EngineError, match="header"):
        locate_weights(stranger / "weights.safetensors")


def test_the_command_prints_no_escapes_of_a_model_card(
    stranger: Path, cli: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    replace(
        stranger, MODEL_CARD_FILE, b"# Card\x1b]0;owned\x07 \x1b[2J [bold]x[/bold] \xc2\x9b31m \xe2\x80\xae"
    )
    monkeypatch.setenv(STACKS_VARIABLE, str(tmp_path / "root"))
    assert cli("stack", "import", stranger, "--name", "../\x1b[2Jx") == ExitCode.USAGE
    assert cli("stack", "info", stranger) == ExitCode.OK
    assert cli("stack", "info", stranger, "--json") == ExitCode.OK
    printed = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(printed.out + printed.err)
    assert "[bold]x[/bold]" in printed.out and r"\x1b[2J" in printed.out
