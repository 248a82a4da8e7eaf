"""Settings of the whole suite, and the command line as typed."""

import sys
from collections.abc import Callable

import pytest
from hypothesis import settings

from kneerisk.cli import main

# Time belongs in benchmarks: a slow machine is no failing test.
settings.register_profile("kneerisk", deadline=None)
settings.load_profile("kneerisk")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command line in this process; gives its exit status."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["kneerisk", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run
