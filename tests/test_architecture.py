"""The house's directions: who may import whom, and that importing stays quick, quiet and light."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOMES = {"kneerisk": ROOT, "kneerisk_engines": ROOT / "engines", "kneerisk_train": ROOT / "train"}
HEAVY = {
    "cv2", "gdcm", "h5py", "imagecodecs", "matplotlib", "onnx", "onnxscript", "openvino", "pandas", "polars",
    "pydicom", "ray", "safetensors", "scipy", "tensorrt", "torch",
}  # fmt: skip

# The rooms of the scoring chain: each takes a record, gives a record or a refusal, and knows no other room.
CHAIN = [
    "kneerisk.radiograph.sources.scan",
    "kneerisk.radiograph.decode.read",
    "kneerisk.radiograph.locate.localise",
    "kneerisk.method.predict",
    "kneerisk.method.score",
    "kneerisk.scoring.outputs.rows",
]

# Third-party packages that only some rooms may import.
CONFINED = {
    "typer": ("kneerisk.cli",),
    "rich": ("kneerisk.cli",),
    "pydicom": ("kneerisk.radiograph", "kneerisk.simulate"),
    # A manifest may be a Parquet file, and is read beside the other inputs.
    "polars": (
        "kneerisk.scoring",
        "kneerisk.study",
        "kneerisk.compile.verification",
        "kneerisk.radiograph.sources.manifest",
        "kneerisk.simulate.truth",
        "kneerisk_train",
    ),
    "torch": ("kneerisk_engines", "kneerisk.models", "kneerisk.method.diffusion", "kneerisk_train"),
    "onnx": ("kneerisk_engines",),
    "onnxscript": ("kneerisk_engines",),
    "openvino": ("kneerisk_engines",),
    "tensorrt": ("kneerisk_engines",),
    "ray": ("kneerisk.scoring.cluster",),
}


def source_files() -> dict[str, Path]:
    """Every module of the three packages, by its dotted name."""
    files: dict[str, Path] = {}
    for package, home in HOMES.items():
        for path in sorted((home / package).rglob("*.py")):
            parts = path.relative_to(home).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


FILES = source_files()


def imports(module: str, *, typing: bool = True, late: bool = True) -> set[str]:
    """The dotted names that a module imports; a name of ours is narrowed to the module that it comes from.

    ``typing=False`` leaves out what stands under ``if TYPE_CHECKING``, ``late=False`` what functions import.
    """
    is_package = FILES[module].name == "__init__.py"
    found: set[str] = set()
    for node in statements(ast.parse(FILES[module].read_text()), typing, late):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            found.update(f"{base}.{a.name}" if f"{base}.{a.name}" in FILES else base for a in node.names)
    return found


def statements(tree: ast.AST, typing: bool, late: bool) -> Iterator[ast.AST]:
    """Walk a syntax tree, with or without functions' bodies and what is there for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if not late and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if not typing and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from statements(node, typing, late)


def inside(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of the packages or lies within one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def violations(sources: Iterator[str] | list[str], forbidden: tuple[str, ...]) -> list[str]:
    return [f"{m} imports {name}" for m in sources for name in imports(m) if inside(name, *forbidden)]


def test_the_walk_sees_the_three_packages() -> None:
    assert {name.partition(".")[0] for name in FILES} == set(HOMES)
    assert "kneerisk.errors" in imports("kneerisk.records")


def test_engines_knows_nothing_of_knees() -> None:
    assert (
        violations([m for m in FILES if inside(m, "kneerisk_engines")], ("kneerisk", "kneerisk_train")) == []
    )


def test_only_the_cli_reaches_into_train() -> None:
    # ``python -m kneerisk`` is a door of the roof.
    roof = ("kneerisk.cli", "kneerisk.__main__")
    below = [m for m in FILES if inside(m, "kneerisk") and not any(inside(m, r) for r in roof)]
    assert violations(below, ("kneerisk_train", "kneerisk.cli")) == []


def test_train_knows_neither_the_cli_nor_scoring() -> None:
    trainers = [m for m in FILES if inside(m, "kneerisk_train")]
    assert violations(trainers, ("kneerisk.cli", "kneerisk.scoring")) == []


def test_models_and_diffusion_import_torch_or_numpy_alone() -> None:
    allowed = {"torch", "numpy", *sys.stdlib_module_names}
    for module in FILES:
        if inside(module, "kneerisk.models", "kneerisk.method.diffusion"):
            ours = {name for name in imports(module) if inside(name, "kneerisk.models")}
            others = {name.partition(".")[0] for name in imports(module) - ours}
            assert others <= allowed, f"{module} imports {sorted(others - allowed)}"


@pytest.mark.parametrize("room", CHAIN)
def test_no_room_of_the_chain_knows_a_sibling(room: str) -> None:
    assert imports(room) & (set(CHAIN) - {room}) == set()


def test_radiograph_and_scoring_meet_only_in_cohort() -> None:
    readers = [m for m in FILES if inside(m, "kneerisk.radiograph")]
    assert violations(readers, ("kneerisk.scoring",)) == []
    # Settings and flags are words alone; files and pixels come in by the one door.
    words = {"kneerisk.radiograph.settings", "kneerisk.radiograph.flags"}
    scorers = {m for m in FILES if inside(m, "kneerisk.scoring")}
    seen = {m: {n for n in imports(m) if inside(n, "kneerisk.radiograph")} - words for m in scorers}
    assert {m: names for m, names in seen.items() if names} == {
        "kneerisk.scoring.cohort": {"kneerisk.radiograph.knees"}
    }


@pytest.mark.parametrize("package", sorted(CONFINED))
def test_third_party_package_stays_in_its_rooms(package: str) -> None:
    outside = [m for m in FILES if not inside(m, *CONFINED[package])]
    assert [m for m in outside if any(inside(n, package) for n in imports(m, typing=False))] == []


def test_modules_form_no_circle() -> None:
    """At import time: what a function imports late cannot lock two files together."""
    graph = {m: {n for n in imports(m, typing=False, late=False) if n in FILES and n != m} for m in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "a circle: " + " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def run_python(code: str, cwd: Path) -> str:
    """Run code in a fresh interpreter that can write nowhere but ``cwd``'s home; gives its output."""
    environment = {**os.environ, "HOME": str(cwd), "XDG_CACHE_HOME": str(cwd), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(str(home) for home in HOMES.values())
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_a_package_loads_nothing_heavy_and_leaves_nothing(tmp_path: Path) -> None:
    packages = [m for m, path in FILES.items() if path.name == "__init__.py" and m != "kneerisk.models"]
    code = (
        f"import sys, threading\nfor name in {packages}: __import__(name)\n"
        "assert threading.active_count() == 1\nprint(*sys.modules)"
    )
    loaded = {name.partition(".")[0] for name in run_python(code, tmp_path).split()}
    assert loaded & HEAVY == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["score", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        f"import sys\nsys.argv = ['kneerisk', *{arguments}]\nfrom kneerisk.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\nLOADED', *sys.modules)"
    )
    printed, _, modules = run_python(code, tmp_path).rpartition("\nLOADED")
    assert "kneerisk" in printed
    assert {name.partition(".")[0] for name in modules.split()} & (HEAVY | {"numpy"}) == set()
