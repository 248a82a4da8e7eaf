"""Says at the end how many runs were ended, and by what."""

from __future__ import annotations

from collections import Counter

import pytest

_ENDS = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ENDS] = Counter()


@pytest.fixture(scope="session")
def ends(request: pytest.FixtureRequest) -> Counter[str]:
    """What ended, by which signal and when → how often."""
    return request.config.stash[_ENDS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for how, times in sorted(config.stash[_ENDS].items()):
        terminalreporter.write_line(f"{times} ends: {how}")
