"""What a release is made of is pinned, with hashes, and as it was tested."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)")


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
    found = (PIN.match(line) for line in lines)
    return {plain(match[1]): match[2] for match in found if match}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_part_has_a_version_and_hashes() -> None:
    for name in ("release.txt", "release-tools.txt"):
        text = (ROOT / "requirements" / name).read_text("utf-8")
        parts = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
        assert len(parts) > 30
        for part in parts:
            assert PIN.match(part) and "--hash=sha256:" in part, part[:60]


def test_the_released_set_is_what_the_package_asks_for_as_it_was_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = {
        plain(re.split(r"[<>=!~\[ ;]", line)[0])
        for line in [*project["dependencies"], *extras["study"], *extras["report"]]
    }
    released, tested = pins("release.txt"), pins("dev.txt")
    assert asked <= released.keys(), "make locks"
    assert "torch" not in released
    differing = {name for name in released.keys() & tested.keys() if released[name] != tested[name]}
    assert differing == set(), "make locks"


def test_the_container_runs_as_nobody_in_particular_and_installs_by_hash() -> None:
    recipe = (ROOT / "Containerfile").read_text("utf-8")
    last = recipe.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!0|root)\S+", last, re.MULTILINE)
    assert "--require-hashes" in recipe and "sha256sum --check" in recipe
    assert "--network none" in recipe and "--read-only" in recipe
