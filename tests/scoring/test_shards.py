"""Parts of a scan: by the path alone, and by the task of a Slurm array."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kneerisk.errors import UsageError
from kneerisk.scoring.shards import Shard, slurm_shard


def array(**numbers: int) -> dict[str, str]:
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in numbers.items()}


def test_every_image_is_in_one_part_and_parts_are_alike_in_size() -> None:
    paths = [f"P{i:05d}/knee.dcm" for i in range(4000)]
    parts = [Shard(i, 4) for i in range(1, 5)]
    assert all(sum(part.holds(path) for part in parts) == 1 for path in paths)
    assert all(900 < sum(map(part.holds, paths)) < 1100 for part in parts)


def test_an_image_keeps_its_part_on_every_machine_and_in_every_release() -> None:
    parts = [next(i for i in range(1, 4) if Shard(i, 3).holds(path)) for path in ("a", "b/c.dcm", "ü.png")]
    assert parts == [3, 1, 3]


@pytest.mark.parametrize(
    ("first", "task", "part"), [(1, 1, "1/8"), (1, 8, "8/8"), (0, 0, "1/8"), (0, 7, "8/8")]
)
def test_a_task_of_an_array_takes_its_part(first: int, task: int, part: str) -> None:
    assert str(slurm_shard(array(ID=task, MIN=first, MAX=first + 7, COUNT=8))) == part


def test_a_task_that_is_run_again_is_told_how_many_there_were() -> None:
    alone = array(ID=3, MIN=3, MAX=3, COUNT=1)
    assert str(slurm_shard(alone, 8)) == "3/8"
    with pytest.raises(UsageError, match="slurm/N"):
        slurm_shard(array(ID=1, MIN=1, MAX=1, COUNT=1))
    with pytest.raises(UsageError, match="wants an array 1-2"):
        slurm_shard(alone, 2)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "SLURM_ARRAY_TASK_ID, which is not set"),
        (array(ID=3, MIN=1, MAX=7, COUNT=4), "without gaps"),
        (array(ID=5, MIN=5, MAX=8, COUNT=4), "counts from 0 or 1"),
        ({**array(ID=1, MIN=1, MAX=4), "SLURM_ARRAY_TASK_COUNT": "four"}, "'four'"),
    ],
)
def test_what_an_array_does_not_say_is_not_guessed(environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        slurm_shard(environment)


def test_the_command_line_reads_the_array(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in array(ID=2, MIN=1, MAX=3, COUNT=3).items():
        monkeypatch.setenv(name, value)
    assert Shard.parse("slurm") == Shard(2, 3)
    assert Shard.parse("slurm/5") == Shard(2, 5)
    with pytest.raises(UsageError, match="or slurm in a Slurm array"):
        Shard.parse("slurm/x")


@pytest.mark.parametrize(
    ("status", "ends"), [(0, 0), (3, 0), (4, 0), (1, 1), (130, 130)], ids=lambda value: str(value)
)
def test_the_array_script_asks_for_its_part_and_ends_as_the_run_did(
    status: int, ends: int, tmp_path: Path
) -> None:
    script = Path(__file__).parents[2] / "examples" / "slurm" / "score_array.sh"
    stub = tmp_path / "kneerisk"
    stub.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {tmp_path}/asked\nexit {status}\n')
    stub.chmod(0o755)
    environment = {
        **array(ID=7, MIN=7, MAX=7, COUNT=1),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PARTS": "16",
        "SLURM_CPUS_PER_TASK": "3",
    }
    done = subprocess.run([script, "co hort", tmp_path / "out"], env=environment, check=False)
    assert done.returncode == ends
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:4] == ["score", "co hort", "--shard", "slurm/16"]
    assert asked[4:8] == ["--workers", "3", "--out", f"{tmp_path}/out/part-7.parquet"]
    assert "--resume" in asked
