"""Settings of the whole suite, and the command line as typed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from kneerisk.cli import main

# Time belongs in benchmarks: a slow machine is no failing test.
settings.register_profile("kneerisk", deadline=None)
settings.load_profile("kneerisk")

TESTS = Path(__file__).parent

# Files and folders whose tests run beside no others, in a second call of pytest (``make test``).
ALONE = (
    # A cluster takes the machine's cores and memory for its own, and two of them find each other.
    "cluster",
    # TensorRT calls its log, a function of Python's, from threads of its own: a build hung beside others.
    "cli/test_compile.py",
    "compile/test_choice.py",
    "engines/tensorrt/test_build.py",
)
# The longest files, which go to the cores first: one of them begun last would keep all others waiting.
LONG = (
    "train/test_chain.py",
    "test_network.py",
    "test_packaging.py",
    "stack/test_shipped_stack.py",
    "test_examples.py",
    "train/test_release_to_score.py",
    "faults",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _place(item.path, ALONE) < len(ALONE):
            item.add_marker(pytest.mark.alone)
    items.sort(key=lambda item: _place(item.path, LONG))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Asked for the tests that run alone, read no others."""
    others = collection_path.is_file() and _place(collection_path, ALONE) == len(ALONE)
    return True if config.option.markexpr == "alone" and others else None


def _place(path: Path, listed: tuple[str, ...]) -> int:
    """Where a file, or the folder it lies in, stands in a list; the list's length where it does not."""
    return next((n for n, name in enumerate(listed) if path.is_relative_to(TESTS / name)), len(listed))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command line in this process; gives its exit status."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["kneerisk", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run
