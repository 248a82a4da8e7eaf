"""The command line: declares, imports late, calls one function."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``kneerisk``; the exit status is one of :class:`kneerisk.errors.ExitCode`."""
    from kneerisk.cli.app import app
    from kneerisk.errors import KneeriskError

    try:
        app()
    except KneeriskError as error:
        from kneerisk.cli.show import complain

        complain(str(error))
        sys.exit(int(error.exit_code))
