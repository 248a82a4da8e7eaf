"""What a terminal cannot write is replaced, never an error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HELP = "import sys; from kneerisk.cli import main; sys.argv = ['kneerisk', 'score', '--help']; main()"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_help_is_written_to_a_terminal_of_few_signs(encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", HELP], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert b"--out" in done.stdout
