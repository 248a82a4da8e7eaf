"""Nothing leaves the machine: no name is looked up, no connection opened, no file left that nobody asked for.

Every command is run, in a process of its own with an empty home. Libraries that report home often keep still
where a variable says that continuous integration runs, so the commands here run without any such variable.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from kneerisk.cli.app import app

ROOT = Path(__file__).parents[1]
KNEE = ROOT / "examples" / "cohort" / "9115049" / "9115049R.png"

# Python runs a module of this name at the start of every process, children included.  What it hears is
# written down before it is refused: a library may swallow the refusal.
LISTENER = """
import os, sys

LOG = os.environ["KNEERISK_TEST_LOG"]
HERE = os.environ["KNEERISK_TEST_FOLDER"]
CALLS = {"socket." + name for name in ("getaddrinfo", "gethostbyname", "gethostbyaddr", "connect", "sendto")}


def told(line):
    with open(LOG, "a") as log:
        log.write(line + "\\n")


def hear(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, (str, bytes)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            place = os.path.abspath(os.fsdecode(path))
            if not place.startswith((HERE, "/dev/", "/proc/self/")):
                told(f"file {place}")
        return
    if event not in CALLS:
        return
    if event in ("socket.connect", "socket.sendto") and not isinstance(arguments[1], tuple):
        return  # a socket of this machine, by a path
    told(f"{event} {[a for a in arguments if not hasattr(a, 'fileno')]}")
    raise PermissionError("the network is closed to this test")


sys.addaudithook(hear)
"""


@dataclass
class Silence:
    """A folder in which commands are run, each in an empty home, and what was heard of them."""

    folder: Path
    runs: int = 0
    heard: list[str] = field(default_factory=list)
    output: str = ""

    def __post_init__(self) -> None:
        for name in ("hooks", "work", "own"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "hooks" / "sitecustomize.py").write_text(LISTENER)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def run(self, *arguments: object) -> tuple[int, list[str], list[str]]:
        """``python -m …``: (exit status, calls heard and files written elsewhere, files left in the home)."""
        self.runs += 1
        home, temporary, log = (self.folder / f"{name}{self.runs}" for name in ("home", "tmp", "log"))
        home.mkdir()
        temporary.mkdir()
        paths = [self.folder / "hooks", self.work, ROOT, ROOT / "engines", ROOT / "train"]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "KNEERISK_TEST_LOG": str(log),
            "KNEERISK_TEST_FOLDER": str(self.folder),
            "KNEERISK_CACHE": str(self.folder / "own" / "cache"),
            "KNEERISK_STACKS": str(self.folder / "own" / "stacks"),
        }
        done = subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        self.output = done.stdout + done.stderr
        heard = log.read_text().splitlines() if log.exists() else []
        left = [path for place in (home, temporary) for path in place.rglob("*") if not _is_torchs(path)]
        return done.returncode, heard, sorted(str(path.relative_to(self.folder)) for path in left)


def _is_torchs(path: Path) -> bool:
    """The empty folder that torch makes among the temporary ones, whatever it is used for."""
    return path.name.startswith("torchinductor_") and path.is_dir() and not any(path.iterdir())


def test_the_listener_hears_a_child_that_swallows_the_refusal(tmp_path: Path) -> None:
    silence = Silence(tmp_path / "silence")
    (silence.work / "parent.py").write_text(
        "import os, subprocess, sys\n"
        "look_up = 'import socket\\ntry: socket.gethostbyname(\"somewhere\")\\nexcept OSError: pass'\n"
        "subprocess.run([sys.executable, '-c', look_up], check=True)\n"
        f"open({str(tmp_path / 'elsewhere')!r}, 'w').close()\n"
        "open(os.path.expanduser('~/report'), 'w').close()\n"
    )
    status, heard, left = silence.run("parent")
    assert status == 0
    assert [line.split()[0] for line in heard] == ["socket.gethostbyname", "file"]
    assert left == ["home1/report"]


SMALL = ("--spacing-mm", 0.8, "--no-progress")
LABELS = ("--labels", "sim/labels.csv", "--allow-unmatched")
STUDY, TRAINING, ENGINES = ("jinja2", "matplotlib"), ("lightning_fabric",), ("tensorrt_rtx_bindings",)

# In the order in which they need each other: the modules of an extra, and the command.
COMMANDS: tuple[tuple[tuple[str, ...], tuple[object, ...]], ...] = (
    ((), ("columns",)),
    ((), ("doctor",)),
    ((), ("simulate", "sim", "--participants", 8, "--visits", "0,12", *SMALL)),
    ((), ("validate", "sim/manifest.csv", "--limit", 2)),
    ((), ("score", KNEE, "--out", "one.parquet", "--previews", "pictures", "--futures", "f.h5")),
    ((), ("score", "sim/manifest.csv", "--out", "p1.parquet", "--shard", "1/2", "--run-report", "r.json")),
    ((), ("score", "sim/manifest.csv", "--out", "p2.parquet", "--shard", "2/2")),
    ((), ("merge", "p1.parquet", "p2.parquet", "--out", "risks.parquet")),
    ((), ("derive", "risks.parquet", "--out", "derived.parquet")),
    (STUDY, ("evaluate", "risks.parquet", *LABELS)),
    (STUDY, ("calibrate", "risks.parquet", *LABELS, "--out", "c.json")),
    ((), ("watch", KNEE.parent, "--out", "parts", "--once", "--every", 0.5)),
    ((), ("enrich", "risks.parquet", "--top-fraction", 0.25, "--visit", "0", "--force")),
    (STUDY, ("report", "risks.parquet", "--out", "page.html")),
    ((), ("stack", "list")),
    ((), ("stack", "info")),
    ((), ("stack", "import", ROOT / "kneerisk" / "stacks" / "compact", "--name", "mine")),
    ((), ("stack", "remove", "mine", "--yes")),
    (ENGINES, ("compile", "--flavour", "tensorrt-rtx", "--gpu", "portable")),
    ((), ("engines", "list")),
    ((), ("engines", "verify")),
    (ENGINES, ("engines", "export", "engines.tar")),
    ((), ("engines", "prune", "--all")),
    (ENGINES, ("engines", "import", "engines.tar")),
    ((), ("simulate", "oai", "--participants", 24, "--visits", "0,12", "--layout", "oai", *SMALL)),
    (TRAINING, ("prepare", "oai", "oai", "--out", "prepared", "--workers", 2)),
    (TRAINING, ("train", "all", "--recipe", "debug", "--data", "prepared", "--out", "run")),
    (
        TRAINING,
        ("train", "publish", "--data", "prepared", "--out", "run", "--stack", "s", "--steps", 2, "--force"),
    ),
)
ENDS_WELL = {"score": (0, 3), "validate": (0, 3), "evaluate": (0, 2), "calibrate": (0, 2)}
"""Of the commands that may end otherwise here: radiographs are refused, and few knees give no figures."""


def name_of(arguments: tuple[object, ...]) -> str:
    words = arguments[:2] if arguments[0] in ("stack", "engines", "train") else arguments[:1]
    return " ".join(map(str, words))


def commands_of(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    if not hasattr(command, "list_commands"):
        yield " ".join(words)
        return
    context = typer.Context(command)
    for name in command.list_commands(context):
        yield from commands_of(command.get_command(context, name), (*words, name))


def test_every_command_is_listened_to() -> None:
    heard = {name_of(arguments) for _, arguments in COMMANDS}
    assert set(commands_of(get_command(app))) - {"train"} <= heard


Result = tuple[int, list[str], list[str], str]


@pytest.fixture(scope="module")
def result_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Result | None]:
    """Function: a command's number → its exit status, what was heard, what was left, and what it printed.

    Those before it are run first, once, for it may need what they made. ``None``: its extra is missing.
    """
    silence = Silence(tmp_path_factory.mktemp("silence"))
    results: list[Result | None] = []

    def run(number: int) -> Result | None:
        for needed, arguments in COMMANDS[len(results) : number + 1]:
            able = all(map(find_spec, needed))
            results.append((*silence.run("kneerisk", *arguments), silence.output) if able else None)
        return results[number]

    return run


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=lambda number: name_of(COMMANDS[number][1]))
def test_a_command_opens_no_connection_and_leaves_nothing_behind(
    number: int, result_of: Callable[[int], Result | None]
) -> None:
    needed, arguments = COMMANDS[number]
    result = result_of(number)
    if result is None:
        pytest.skip(f"needs {', '.join(needed)}")
    status, heard, left, output = result
    assert status in ENDS_WELL.get(name_of(arguments), (0,)), output[-1500:]
    assert heard == []
    assert left == []
