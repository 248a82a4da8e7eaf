"""Which images of a scan a run takes: part I of N by the path alone, or the part of a Slurm array's task."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from kneerisk.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1.

    An image's part follows from its source path and ``count`` alone, so that a cohort that grows keeps its
    parts: what is added moves no image from one to another. Parts are alike in size, not equal.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"--shard counts from 1: i/n with 1 ≤ i ≤ n; got {self.index}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"2/8"`` → the second of eight; ``"slurm"`` and ``"slurm/8"`` → :func:`slurm_shard`."""
        word, slash, count = (part.strip() for part in text.partition("/"))
        if word == "slurm" and (not slash or count.isdecimal()):
            return slurm_shard(os.environ, int(count) if slash else None)
        if not (slash and word.isdecimal() and count.isdecimal()):
            raise UsageError(f"--shard is written i/n, such as 1/8, or slurm in a Slurm array; got {text!r}")
        return cls(int(word), int(count))

    def holds(self, source_path: str) -> bool:
        """Whether an image of the scan belongs to this part."""
        return self.part_of(source_path, self.count) == self.index

    @staticmethod
    def part_of(source_path: str, count: int) -> int:
        """Which of ``count`` parts an image belongs to, counted from 1."""
        if count == 1:
            return 1
        digest = hashlib.blake2b(source_path.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % count + 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def slurm_shard(environment: Mapping[str, str], count: int | None = None) -> Shard:
    """The part of the Slurm array's task that runs here.

    Args:
        environment: with the variables ``SLURM_ARRAY_TASK_…`` (``ID``, and without ``count`` also ``MIN``,
            ``MAX`` and ``COUNT``) that Slurm sets for a task of an array.
        count: how many parts there are, of an array whose tasks count from 1; ``None``: as many as tasks,
            and they count from 0 or 1 without gaps. A task that is run again by itself is an array of one,
            which says nothing of the others: there ``count`` must be given.

    Raises:
        UsageError: no task of an array runs here, or its numbers do not say which part is meant.
    """
    task = _number(environment, "ID")
    if count is not None:
        if not 1 <= task <= count:
            raise UsageError(f"--shard slurm/{count} wants an array 1-{count}; this is its task {task}")
        return Shard(task, count)
    first, last, tasks = (_number(environment, name) for name in ("MIN", "MAX", "COUNT"))
    if tasks == 1:
        raise UsageError(
            f"--shard slurm: this array has the task {task} alone, and would score every image; "
            "to run one task of N again, write --shard slurm/N"
        )
    if first not in (0, 1) or last - first + 1 != tasks:
        raise UsageError(
            f"--shard slurm wants an array that counts from 0 or 1 without gaps, such as --array=1-8; this "
            f"one has {tasks} tasks from {first} to {last}: "
            "write --shard slurm/N, where N is the number of parts"
        )
    return Shard(task - first + 1, tasks)


def _number(environment: Mapping[str, str], name: str) -> int:
    variable = f"SLURM_ARRAY_TASK_{name}"
    text = environment.get(variable, "")
    if not text.isdecimal():
        what = f"is {text!r}" if text else "is not set"
        raise UsageError(
            f"--shard slurm reads {variable}, which {what}: start the job with sbatch --array=1-N, "
            "or write --shard I/N"
        )
    return int(text)
