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
    # TensorRT calls its log, a function of Python's, from threads of its own; beside other tests a build hung once.
    "cli/test_compile.py",
    "compile/test_choice.py",
    "engines/tensorrt",
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
        if any(item.path.is_relative_to(TESTS / place) for place in ALONE):
            item.add_marker(pytest.mark.alone)
    items.sort(key=lambda item: not any(item.path.is_relative_to(TESTS / place) for place in LONG))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command line in this process; gives its exit status."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["kneerisk", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run
