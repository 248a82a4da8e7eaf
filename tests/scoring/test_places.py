"""Where a run writes: what would destroy an input or another output is refused before any work."""

from pathlib import Path
from types import ModuleType

import pytest

from kneerisk.errors import UsageError
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.outputs import table
from kneerisk.scoring.settings import RunSettings, check_places, shareable


def check(folder: Path, inputs: str = "in", **options: object) -> None:
    """``options`` name files in ``folder``; flags as they are."""
    given = {key: folder / value if isinstance(value, str) else value for key, value in options.items()}
    run = RunSettings(**{"out": folder / "r.parquet", **given})
    check_places(InputSettings((folder / inputs,)), run, {"--report": folder / "page.html"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "manifest.csv").write_text("path\nx.dcm\n")
    (tmp_path / "old.csv").write_text("a table")
    (tmp_path / "old.csv.json").write_text("its metadata")
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "index.html").symlink_to("../page.html")
    (tmp_path / "link.csv").symlink_to("manifest.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "manifest.csv")
    return tmp_path


def test_plain_places_are_free(folder: Path) -> None:
    check(folder, previews="p", futures="f.h5", run_report="r.json")
    check(folder, out="x.csv", run_report="x.json")


@pytest.mark.parametrize(
    ("words", "inputs", "options"),
    [
        ("is an input", "manifest.csv", {"out": "manifest.csv", "overwrite": True}),
        ("is an input", "manifest.csv", {"out": "link.csv", "overwrite": True}),
        ("is an input", "manifest.csv", {"out": "hard.csv", "overwrite": True}),
        ("is an input", "manifest.csv", {"out": "in/../manifest.csv", "resume": True}),
        ("same file", "in", {"out": "x.csv", "run_report": "x.csv.json"}),
        ("metadata of the table old.csv", "in", {"run_report": "old.csv.json", "overwrite": True}),
        ("same file", "in", {"futures": "f.h5", "previews": "f.h5"}),
        ("same file", "in", {"futures": "page.html.h5", "previews": "page.html"}),
        ("same file", "in", {"previews": "pics"}),
        ("which a run deletes", "in", {"futures": "r.parquet.kneerisk/f.h5"}),
        ("which a run deletes", "in", {"previews": "r.parquet.kneerisk"}),
        ("is a file", "in", {"previews": "old.csv"}),
        ("is a folder", "in", {"run_report": "in.json"}),
        ("--run-report .* exists", "in", {"run_report": "was.json"}),
        ("--futures .* exists", "in", {"futures": "was.h5"}),
    ],
)
def test_what_would_be_written_over_is_named(folder: Path, words: str, inputs: str, options: dict) -> None:
    (folder / "in.json").mkdir()
    for name in ("was.json", "was.h5"):
        (folder / name).write_text("of an earlier run")
    with pytest.raises(UsageError, match=words):
        check(folder, inputs, **options)


def test_what_an_earlier_run_wrote_is_written_over_when_asked(folder: Path) -> None:
    (folder / "was.json").write_text("of an earlier run")
    check(folder, run_report="was.json", overwrite=True)
    check(folder, run_report="was.json", resume=True)


def test_no_output_holds_a_path_of_this_machine(tmp_path: Path, fake: ModuleType, cohort: Path) -> None:
    places = {
        "out": tmp_path / "o" / "r.csv", "futures": tmp_path / "o" / "f.h5", "previews": tmp_path / "o" / "p"
    }  # fmt: skip
    (tmp_path / "o").mkdir()
    fake.run(cohort, RunSettings(**places))
    for path in places["out"].parent.rglob("*.*"):
        assert str(tmp_path).encode() not in path.read_bytes(), path
    run = table.read_metadata(places["out"])["run"]
    assert run["fingerprint"]["inputs"] == [cohort.name]


def test_a_finished_run_is_known_by_its_inputs(tmp_path: Path, fake: ModuleType, cohort: Path) -> None:
    out = tmp_path / "r.parquet"
    fake.run(cohort, RunSettings(out))
    fake.run(cohort, RunSettings(out, resume=True))
    with pytest.raises(UsageError, match="inputs_sha256"):
        fake.run(cohort, RunSettings(out, resume=True), inputs=["/elsewhere/" + cohort.name])
    one = shareable({"inputs": ["/a/x"], "manifests": {"/a/x": "0"}})
    assert shareable(one) == one and "/a" not in repr(one)
