"""The wheel, tried as a user would have it: built, in an environment of its own, away from the checkout."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kneerisk.stack.stack import Stack

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path, accept: tuple[int, ...] = (0,)) -> str:
    """Run a command outside the checkout, without the variables that would lead back into it."""
    environment = {
        k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
    }
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in accept, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and what it asks for, nothing else; gives its ``bin`` folder."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    pins = ROOT / "requirements" / "dev.txt"
    # Compiling every module of what is installed would take longer than all that is asked of it.
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-compile")
    run(*pip, "--quiet", "--disable-pip-version-check", "--constraint", pins, wheel, cwd=folder)
    return folder / "bin"


def test_wheel_carries_the_packages_and_the_stack_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "kneerisk",
        "kneerisk_engines",
        "kneerisk_train",
    }
    stack = "kneerisk/stacks/compact/"
    files = (
        *("stack.yaml", "weights.safetensors", "calibration.json", "outcomes.json", "training.yaml"),
        "MODEL_CARD.md",
    )
    graphs = tuple(f"{component}.onnx" for component in Stack.load("compact").description.components)
    assert {name.removeprefix(stack) for name in names if name.startswith(stack)} == {*files, *graphs}
    assert "kneerisk_train/recipes/compact.yaml" in names
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names if ".dist-info/licenses/" in name}


def test_compact_stack_stays_within_its_promise() -> None:
    files = [path for path in (ROOT / "kneerisk" / "stacks" / "compact").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30 * 2**20


def test_installed_packages_import_from_the_environment_and_need_no_torch(environment: Path) -> None:
    code = (
        "import importlib.util, kneerisk, kneerisk_engines, kneerisk_train\n"
        "assert importlib.util.find_spec('torch') is None\n"
        "print(kneerisk.__file__, kneerisk_engines.__file__, kneerisk_train.__file__)"
    )
    places = run(environment / "python", "-c", code, cwd=environment).split()
    assert [place for place in places if not Path(place).is_relative_to(environment.parent)] == []


def test_installed_command_knows_its_version_and_its_machine(environment: Path, wheel: Path) -> None:
    version = wheel.name.split("-")[1]
    assert version in run(environment / "kneerisk", "--version", cwd=environment)
    machine = json.loads(run(environment / "kneerisk", "doctor", "--json", cwd=environment))
    assert "compact" in json.dumps(machine)


@pytest.fixture(params=["working directory", "site-packages"])
def strangers(request: pytest.FixtureRequest, environment: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder to work in, with a research project's own ``train.py`` and ``engines.py`` in the way."""
    (site,) = (environment.parent / "lib").glob("python*/site-packages")
    place = tmp_path if request.param == "working directory" else site
    files = [place / f"{name}.py" for name in ("train", "engines", "benchmarks", "prepare")]
    for file in files:
        file.write_text("raise SystemExit('the wrong file was imported')\n")
    yield tmp_path
    for file in files:
        file.unlink()


@pytest.mark.parametrize("command", [("train",), ("train", "vqvae"), ("prepare",), ("score",)])
def test_no_file_of_a_strangers_project_is_taken_for_ours(
    command: tuple[str, ...], environment: Path, strangers: Path
) -> None:
    printed = run(environment / "python", "-m", "kneerisk", *command, "--help", cwd=strangers)
    assert f"kneerisk {' '.join(command)} [OPTIONS]" in " ".join(printed.split())


def test_all_packages_import_beside_a_strangers_project(environment: Path, strangers: Path) -> None:
    code = "import kneerisk.scoring.cohort, kneerisk_engines.backends, kneerisk_train.prepare.prepare"
    run(environment / "python", "-c", code, cwd=strangers)


def test_installed_command_scores_a_radiograph(environment: Path, tmp_path: Path) -> None:
    knee = ROOT / "examples" / "cohort" / "9070207" / "9070207R.dcm"
    out = tmp_path / "risks.csv"
    run(environment / "kneerisk", "score", knee, "--out", out, cwd=tmp_path)
    header, row = out.read_text().splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=False))["participant_id"] == "9070207"
