"""Nothing leaves the machine: no name is looked up, no connection opened, nothing left in the user's home.

Libraries that report home often keep still where a variable says that continuous integration runs, so the
commands here run without any such variable.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KNEE = ROOT / "examples" / "cohort" / "9115049" / "9115049R.png"

# Python runs a module of this name at the start of every process, children included.  What it hears is
# written down before it is refused: a library may swallow the refusal.
LISTENER = """
import os, sys

LOG = os.environ["KNEERISK_TEST_LOG"]
CALLS = {"socket." + name for name in ("getaddrinfo", "gethostbyname", "gethostbyaddr", "connect", "sendto")}


def hear(event, arguments):
    if event not in CALLS:
        return
    if event in ("socket.connect", "socket.sendto") and not isinstance(arguments[1], tuple):
        return  # a socket of this machine, by a path
    with open(LOG, "a") as log:
        log.write(f"{event} {[a for a in arguments if not hasattr(a, 'fileno')]}\\n")
    raise PermissionError("the network is closed to this test")


sys.addaudithook(hear)
"""


def run_silently(tmp_path: Path, *arguments: object) -> tuple[int, list[str], list[str]]:
    """Run a command in an empty home, its calls to the network heard: (exit status, calls, files left)."""
    hooks, home, log = tmp_path / "hooks", tmp_path / "home", tmp_path / "network.log"
    hooks.mkdir()
    home.mkdir()
    (hooks / "sitecustomize.py").write_text(LISTENER)
    paths = [hooks, ROOT, ROOT / "engines", ROOT / "train"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "KNEERISK_TEST_LOG": str(log),
    }
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    heard = log.read_text().splitlines() if log.exists() else []
    return done.returncode, heard, sorted(str(path.relative_to(home)) for path in home.rglob("*"))


def test_the_listener_hears_a_child_that_swallows_the_refusal(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys\n"
        "look_up = 'import socket\\ntry: socket.gethostbyname(\"somewhere\")\\nexcept OSError: pass'\n"
        "subprocess.run([sys.executable, '-c', look_up], check=True)\n"
    )
    status, heard, _ = run_silently(tmp_path, "parent")
    assert status == 0
    assert [line.split()[0] for line in heard] == ["socket.gethostbyname"]


@pytest.mark.parametrize("command", ["score", "validate", "doctor"])
def test_a_command_opens_no_connection_and_leaves_the_home_alone(command: str, tmp_path: Path) -> None:
    radiographs = tmp_path / "cohort"
    radiographs.mkdir()
    shutil.copy(KNEE, radiographs)
    arguments: dict[str, tuple[object, ...]] = {
        "score": (radiographs, "--out", tmp_path / "risks.parquet"),
        "validate": (radiographs,),
        "doctor": (),
    }
    status, heard, left = run_silently(tmp_path, "kneerisk", command, *arguments[command])
    assert status == 0
    assert heard == []
    assert left == []
