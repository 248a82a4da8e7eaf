"""Commands of other packages: listed without being imported, and a broken one costs nobody another."""

import subprocess
import sys
from pathlib import Path

import pytest

SOUND = """\"\"\"Say a word, kindly.\"\"\"
import sys
import typer

print("IMPORTED", file=sys.stderr)
app = typer.Typer(add_completion=False)

@app.command()
def say(word: str) -> None:
    print("said", word)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as site-packages is: a package whose entry points are one sound command and two broken."""
    package = tmp_path / "stranger_commands"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "say.py").write_text(SOUND)
    (package / "broken.py").write_text('"""Never to be run."""\nimport a_package_that_nobody_has\n')
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[kneerisk.commands]\n"
        "say = stranger_commands.say:app\n"
        "broken = stranger_commands.broken:app\n"
        "gone = stranger_gone.commands:app\n"
        "doctor = stranger_commands.broken:app\n"
    )
    return tmp_path


def kneerisk(site: Path, *arguments: str) -> tuple[int, str, str]:
    code = f"import sys; sys.path.append({str(site)!r})\nfrom kneerisk.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_help_lists_a_plug_in_by_its_docstring_and_imports_none(site: Path) -> None:
    status, printed, errors = kneerisk(site, "--help")
    assert status == 0
    assert "Say a word, kindly." in printed
    assert "Never to be run." in printed
    assert "cannot be loaded: No module named 'stranger_gone'" in " ".join(printed.replace("│", " ").split())
    assert "IMPORTED" not in errors


def test_a_plug_in_runs_when_it_is_asked_for(site: Path) -> None:
    assert kneerisk(site, "say", "hello")[:2] == (0, "said hello\n")
    status, printed, _ = kneerisk(site, "say", "--help")
    assert status == 0 and "say [OPTIONS]" in printed


@pytest.mark.parametrize(
    ("name", "cause"), [("broken", "a_package_that_nobody_has"), ("gone", "stranger_gone")]
)
def test_a_broken_plug_in_says_which_package_to_mend(site: Path, name: str, cause: str) -> None:
    status, _, errors = kneerisk(site, name)
    assert status == 1
    assert "Traceback" not in errors
    assert f"the command {name} comes from the package stranger" in errors
    assert cause in errors


def test_no_plug_in_takes_the_name_of_an_own_command(site: Path) -> None:
    status, printed, _ = kneerisk(site, "doctor", "--help")
    assert status == 0 and "What this machine can do" in printed
