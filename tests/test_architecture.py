"""The house's directions: who may import whom, and that importing stays quick, quiet and light."""

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOMES = {"kneerisk": ROOT, "kneerisk_engines": ROOT / "engines", "kneerisk_train": ROOT / "train"}
HEAVY = {
    "cv2", "gdcm", "h5py", "imagecodecs", "matplotlib", "onnx", "onnxscript", "openvino", "pandas", "polars",
    "pydicom", "ray", "safetensors", "scipy", "tensorrt", "tifffile", "torch",
}  # fmt: skip

_ENGINES = ("kneerisk_engines", "kneerisk_engines.tensorrt")
_WORDS = (
    *("kneerisk.errors", "kneerisk.records", "kneerisk.version", "kneerisk.machine", "kneerisk.marks"),
    *("kneerisk.plotting", "kneerisk.printable", "kneerisk.storage", "kneerisk.frames"),
)
_PLACES = "kneerisk.places"
_FRONT_DOOR = ("kneerisk.radiograph.knees", "kneerisk.radiograph.settings", "kneerisk.radiograph.flags")
_LOCATE = "kneerisk.radiograph.locate"

# Room → the rooms it may import, late imports and those for type checkers counted.  A room is a module or a
# package with all below it, but for what is a room of its own.  Every file lies in one.
ROOMS: dict[str, tuple[str, ...]] = {
    "kneerisk_engines": (),
    "kneerisk_engines.tensorrt": ("kneerisk_engines",),
    "kneerisk.errors": (),
    "kneerisk.version": (),
    "kneerisk.marks": (),
    "kneerisk.plotting": (),
    "kneerisk.storage": ("kneerisk.errors",),
    "kneerisk.frames": (),
    "kneerisk.printable": (),
    "kneerisk.machine": ("kneerisk.version",),
    "kneerisk.records": ("kneerisk.errors",),
    "kneerisk.models": (),
    "kneerisk.method": (*_WORDS, "kneerisk_engines"),
    "kneerisk.stack": (*_WORDS, "kneerisk_engines", "kneerisk.method"),
    "kneerisk.radiograph.flags": (),
    "kneerisk.places": ("kneerisk.errors",),
    "kneerisk.radiograph.settings": (*_WORDS, _PLACES),
    "kneerisk.radiograph.upright": _WORDS,
    "kneerisk.radiograph.sources": (*_WORDS, _PLACES, "kneerisk.radiograph.flags"),
    "kneerisk.radiograph.whole": (),
    "kneerisk.radiograph.decode": (
        *(*_WORDS, "kneerisk.radiograph.flags", "kneerisk.radiograph.upright", "kneerisk.radiograph.sources"),
        *(_PLACES, "kneerisk.radiograph.whole"),
    ),
    "kneerisk.radiograph.locate": (
        *(
            *_WORDS,
            "kneerisk.radiograph.settings",
            "kneerisk.radiograph.flags",
            "kneerisk.radiograph.upright",
        ),
        "kneerisk.method",
    ),
    "kneerisk.radiograph.apart": (*_WORDS, "kneerisk_engines"),
    "kneerisk.radiograph.knees": (
        "kneerisk.radiograph.apart",
        *(*_WORDS, "kneerisk.radiograph.settings", "kneerisk.radiograph.flags", "kneerisk_engines"),
        *("kneerisk.radiograph.sources", "kneerisk.radiograph.decode", "kneerisk.radiograph.locate"),
    ),
    # How objects go through a pipe is asked there, no more.
    "kneerisk.cluster": (*_WORDS, "kneerisk.radiograph.apart"),
    "kneerisk.simulate": _WORDS,
    "kneerisk.compile": (
        *(*_WORDS, *_ENGINES, *_FRONT_DOOR),
        *("kneerisk.method", "kneerisk.models", "kneerisk.simulate", "kneerisk.stack"),
    ),
    "kneerisk.scoring.outputs": (
        *(*_WORDS, _PLACES, "kneerisk_engines", "kneerisk.radiograph.flags", "kneerisk.method"),
    ),
    "kneerisk.scoring.outputs.dicom": (
        "kneerisk_engines",
        *_WORDS,
        _PLACES,
        "kneerisk.radiograph.flags",
        "kneerisk.scoring.outputs",
    ),
    "kneerisk.scoring": (
        *(*_WORDS, *_FRONT_DOOR, _PLACES, "kneerisk_engines"),
        *("kneerisk.method", "kneerisk.stack", "kneerisk.compile", "kneerisk.scoring.outputs"),
        "kneerisk.scoring.outputs.dicom",
        "kneerisk.cluster",
    ),
    "kneerisk.releases": (*_WORDS, "kneerisk.radiograph.sources"),
    "kneerisk.study": (
        *(*_WORDS, "kneerisk_engines", "kneerisk.method", "kneerisk.stack", "kneerisk.releases"),
        "kneerisk.scoring.outputs",
    ),
    "kneerisk.study.figures": (*_WORDS, "kneerisk.study"),
    "kneerisk.study.enrichment": (
        *(*_WORDS, "kneerisk.scoring.outputs", "kneerisk.study", "kneerisk.study.figures"),
    ),
    "kneerisk.study.report": (
        *(*_WORDS, *_FRONT_DOOR, "kneerisk.version"),
        *("kneerisk.study", "kneerisk.study.figures"),
    ),
    "kneerisk": ("kneerisk.version", "kneerisk.scoring"),
    "kneerisk.doctor": (*_WORDS, *_ENGINES, "kneerisk.stack", "kneerisk.compile"),
    "kneerisk.cli": (
        *(*_WORDS, *_ENGINES, *_FRONT_DOOR, "kneerisk.simulate", "kneerisk.stack", "kneerisk.compile"),
        *(_PLACES, "kneerisk.scoring", "kneerisk.scoring.outputs", "kneerisk.doctor"),
        *("kneerisk.study", "kneerisk.study.enrichment", "kneerisk.study.report"),
    ),
    "kneerisk.__main__": ("kneerisk.cli",),
    "kneerisk_train.prepare": (
        *(*_WORDS, *_FRONT_DOOR, "kneerisk_engines", "kneerisk.method", "kneerisk.stack", "kneerisk.compile"),
        *("kneerisk.radiograph.sources", "kneerisk.radiograph.upright", _LOCATE, "kneerisk.releases"),
    ),
    "kneerisk_train.data": (
        *(*_WORDS, "kneerisk.method", "kneerisk.models", "kneerisk.simulate", "kneerisk_train.prepare"),
        # Which knees rise is drawn from the equations that derive's outcomes come from.
        *("kneerisk.stack", "kneerisk.study"),
    ),
    "kneerisk_train.films": (*_WORDS, _LOCATE, "kneerisk.simulate", "kneerisk_train.data"),
    "kneerisk_train.run": (
        *(*_WORDS, "kneerisk_engines", "kneerisk.models", "kneerisk.stack", "kneerisk_train.data"),
        "kneerisk_train.films",
    ),
    "kneerisk_train.stages": (
        *(*_WORDS, "kneerisk_engines", "kneerisk.method", "kneerisk.models", "kneerisk.stack"),
        *("kneerisk_train.prepare", "kneerisk_train.data", "kneerisk_train.films", "kneerisk_train.run"),
    ),
    "kneerisk_train.publish": (
        *(*_WORDS, _LOCATE, "kneerisk_engines", "kneerisk.method", "kneerisk.models", "kneerisk.stack"),
        *("kneerisk.compile", "kneerisk_train.prepare", "kneerisk_train.data", "kneerisk_train.run"),
        *("kneerisk_train.films", "kneerisk_train.stages", "kneerisk.study"),
    ),
    "kneerisk_train.paper": (
        *(*_WORDS, "kneerisk.method", "kneerisk.models", "kneerisk.stack", "kneerisk.simulate"),
        *("kneerisk_train.prepare", "kneerisk_train.data", "kneerisk_train.run", "kneerisk_train.stages"),
        "kneerisk_train.publish",
    ),
    "kneerisk_train.commands": (
        *(*_WORDS, "kneerisk.cli", "kneerisk_train.prepare", "kneerisk_train.run", "kneerisk_train.stages"),
        *("kneerisk.stack", "kneerisk_train.publish", "kneerisk_train.paper"),
    ),
}
MOST_FILES = 15
"""In a folder, that a person can still overlook."""

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
    "typer": ("kneerisk.cli", "kneerisk_train.commands"),
    "rich": ("kneerisk.cli",),
    "pydicom": (
        *("kneerisk.radiograph", "kneerisk.simulate", "kneerisk.scoring.outputs.dicom"),
        "kneerisk.places.dicomweb",
    ),
    "obstore": ("kneerisk.places.objects",),
    "dicomweb_client": ("kneerisk.places.dicomweb",),
    "highdicom": ("kneerisk.scoring.outputs.dicom",),
    # A manifest may be a Parquet file, and is read beside the other inputs.
    "polars": (
        "kneerisk.frames",
        "kneerisk.scoring",
        "kneerisk.study",
        "kneerisk.compile.verification",
        "kneerisk.radiograph.sources.tables",
        "kneerisk.simulate.truth",
        "kneerisk_train",
    ),
    "torch": ("kneerisk_engines", "kneerisk.models", "kneerisk.method.diffusion", "kneerisk_train"),
    "onnx": ("kneerisk_engines",),
    "onnxscript": ("kneerisk_engines",),
    "openvino": ("kneerisk_engines",),
    "tensorrt": ("kneerisk_engines",),
    "cattrs": ("kneerisk_engines.plain",),
    "filelock": ("kneerisk_engines.files",),
    "ray": ("kneerisk.cluster.ray_grid",),
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


def room_of(module: str) -> str | None:
    """The narrowest room that a module lies in; ``kneerisk`` itself is its front alone."""
    parents = [module.rsplit(".", cut)[0] if cut else module for cut in range(module.count(".") + 1)]
    found = next((name for name in parents if name in ROOMS), None)
    return None if found == "kneerisk" and module != "kneerisk" else found


def test_every_file_lies_in_a_room() -> None:
    # The file that makes a folder a package may hold nothing but its docstring.
    empty = {m for m, path in FILES.items() if path.name == "__init__.py" and not imports(m)}
    assert [m for m in FILES if room_of(m) is None and m not in empty] == []
    assert set(ROOMS) - {room_of(m) for m in FILES} == set(), "rooms without a file"


def test_rooms_import_only_what_their_floor_allows() -> None:
    upward = []
    for module in FILES:
        room = room_of(module)
        for name in imports(module) & set(FILES):
            other = room_of(name)
            if room is not None and other not in (None, room, *ROOMS[room]):
                upward.append(f"{module} imports {name}")
    assert upward == []


def test_the_rooms_form_no_circle() -> None:
    assert circle_in({room: set(others) for room, others in ROOMS.items()}) is None


def test_a_folder_holds_no_more_files_than_a_person_can_overlook() -> None:
    counts = Counter(path.parent for path in FILES.values())
    assert {str(folder): n for folder, n in counts.items() if n > MOST_FILES} == {}


def test_nothing_in_kneerisk_names_the_package_that_plugs_into_it() -> None:
    """But for the docstring that shows how a package does."""
    files = [path for m, path in FILES.items() if inside(m, "kneerisk") and m != "kneerisk.cli.plugins"]
    assert [str(path) for path in files if "kneerisk_train" in path.read_text()] == []


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


def test_only_cohort_opens_the_front_door_to_radiographs() -> None:
    """Settings and flags are words alone; files and pixels come in by ``knees``."""
    scorers = [m for m in FILES if inside(m, "kneerisk.scoring") and m != "kneerisk.scoring.cohort"]
    assert violations(scorers, ("kneerisk.radiograph.knees",)) == []


@pytest.mark.parametrize("package", sorted(CONFINED))
def test_third_party_package_stays_in_its_rooms(package: str) -> None:
    outside = [m for m in FILES if not inside(m, *CONFINED[package])]
    assert [m for m in outside if any(inside(n, package) for n in imports(m, typing=False))] == []


def test_polars_opens_tables_in_one_place_where_a_name_is_no_pattern() -> None:
    opened = {
        module: node.attr
        for module, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pl"
        if node.attr.startswith(("read_", "scan_")) and node.attr != "read_parquet_metadata"
    }
    assert set(opened) == {"kneerisk.frames"}, opened


def test_modules_form_no_circle() -> None:
    """What functions import late is counted; what is there for type checkers alone is not."""
    graph = {m: {n for n in imports(m, typing=False) if n in FILES and n != m} for m in FILES}
    assert circle_in(graph) is None


def circle_in(graph: dict[str, set[str]]) -> str | None:
    """The first way that leads back to where it began."""
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> str | None:
        if name in trail:
            return " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                if (found := visit(other, (*trail, name))) is not None:
                    return found
            done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := visit(name, ())) is not None), None)


def test_a_circle_is_seen_however_far_down_it_begins() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == "b -> c -> b"


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
