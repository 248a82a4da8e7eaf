"""The command line: declares, imports late, calls one function."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """Run ``kneerisk``; the exit status is one of :class:`kneerisk.errors.ExitCode`."""
    from kneerisk.cli.app import app
    from kneerisk.errors import ExitCode, KneeriskError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Signs that a terminal or a redirection cannot write are no reason to fail a finished run.
            stream.reconfigure(errors="replace")
    try:
        app()
    except KneeriskError as error:
        from kneerisk.cli.show import complain

        complain(str(error))
        sys.exit(int(error.exit_code))
    except BrokenPipeError:  # whoever read our output has enough of it
        sys.stdout = None
        sys.exit(int(ExitCode.FATAL))
    except (OSError, MemoryError) as error:
        from kneerisk.cli.show import complain
        from kneerisk.storage import in_words

        out_of_memory = "the memory is used up: end other programs, or lower --workers and --batch-size"
        complain(in_words(error) if isinstance(error, OSError) else out_of_memory)
        sys.exit(int(ExitCode.FATAL))
