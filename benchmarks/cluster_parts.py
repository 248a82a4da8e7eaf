"""For benchmarks/cluster.py: a cohort with bad files, a cluster of nodes, a watch on their processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from types import TracebackType

import psutil

from kneerisk.simulate.cohort import CohortSettings, simulate_cohort

ROOT = Path(__file__).parents[1]
NODES = ROOT / "tests" / "cluster" / "ray_nodes.py"
BAD_EVERY = 50
"""One film of so many is spoilt."""
_SPACING_MM = 0.5
_POLL = 0.5


def cohort(home: Path, films: int) -> Path:
    """The folder of a simulated cohort, made once: so many small bilateral films, some of them bad."""
    folder = home / f"films-{films}"
    images, spoilt = folder / "images", folder / "spoilt.txt"
    if spoilt.exists():
        return images
    if not (folder / "truth.parquet").exists():
        shutil.rmtree(folder, ignore_errors=True)  # one that was cut short
        print(f"simulating {films:,} films into {folder}", flush=True)
        people = films + films // 20 + 1  # some have no film
        for _ in simulate_cohort(CohortSettings(folder, people, spacing_mm=_SPACING_MM, workers=2)):
            pass
    files = sorted(images.glob("**/*.dcm"))
    for extra in files[films:]:
        extra.unlink()
    files = files[:films]
    harms = cycle(sorted(_HARMS))
    bad = {path: next(harms) for path in files[BAD_EVERY // 2 :: BAD_EVERY]}
    for path, harm in bad.items():
        _HARMS[harm](path)
    spoilt.write_text("".join(f"{harm}\t{path.relative_to(images)}\n" for path, harm in bad.items()))
    return images


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _write_noise(path: Path) -> None:
    path.write_bytes(b"no image at all " * 64)


def _blacken(path: Path) -> None:
    """The pixels become zeros, whatever they were; the header stays."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))


_HARMS = {
    "cut short": _halve,
    "empty": lambda path: os.truncate(path, 0),
    "no image": _write_noise,
    "zeros from 4 KB on": _blacken,
}


class Nodes:
    """A Ray cluster of several nodes on this machine; see ``tests/cluster/ray_nodes.py``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        found = next((line.split()[1] for line in process.stdout if line.startswith("address ")), None)
        if found is None:
            sys.exit("the cluster does not start")
        self.address = found

    @property
    def pid(self) -> int:
        """Of the process that all of the nodes' processes descend from."""
        return self._process.pid

    def kill(self, number: int) -> None:
        """End a node, 0 the head, without a farewell."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"kill {number}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()


@contextmanager
def nodes(*cpus: int, also: Iterable[Path] = ()) -> Iterator[Nodes]:
    """Start a cluster of nodes with so many CPUs each, the head first.

    Args:
        cpus: of each node.
        also: folders of modules that the nodes must find.
    """
    with tempfile.TemporaryDirectory(prefix="kr") as scratch:  # a socket's path must be short
        paths = [*filter(None, sys.path), *map(str, also)]
        process = subprocess.Popen(
            [sys.executable, NODES, *map(str, cpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "RAY_TMPDIR": scratch,
                "RAY_worker_niceness": "0",  # Ray's 15 would let whatever else runs here go first
            },
        )
        try:
            yield Nodes(process)
        finally:
            for one in [*_descendants(process.pid), psutil.Process(process.pid)]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.communicate()


def _descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


class Watch:
    """Looks at a run's and a cluster's processes twice a second: processor time, and peaks of memory.

    Memory is the proportional set size: what processes share counts once, a part in each.  Ray's object store
    is shared memory of its own processes, and counts there.
    """

    def __init__(self, run: int, cluster: int | None = None, *, memory: bool = False) -> None:
        self._run, self._cluster, self._memory = run, cluster, memory
        self._before: dict[int, float] = {}
        self._cpu: dict[int, float] = {}
        self.peaks: dict[str, int] = {}
        """Group of processes → bytes: ``run``, ``scoring``, ``ray``, and ``all`` at once."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Watch:
        self._look()
        self._before = dict(self._cpu)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    @property
    def cpu_seconds(self) -> float:
        """Of all processes since the watch began, as far as it saw them: half a second of each may lack."""
        return sum(spent - self._before.get(pid, 0.0) for pid, spent in self._cpu.items())

    def _look_on(self) -> None:
        while not self._end.wait(_POLL):
            self._look()

    def _look(self) -> None:
        groups = {"run": self._tree(self._run)}
        if self._cluster is not None:
            below = self._tree(self._cluster)
            servers = [one for one in below if "ray::Server" in _title(one)]
            scoring = {one.pid: one for server in servers for one in self._tree(server.pid)}
            groups["scoring"] = list(scoring.values())
            groups["ray"] = [one for one in below if one.pid not in scoring]
        total = 0
        for name, processes in groups.items():
            held = 0
            for one in processes:
                with suppress(psutil.Error):
                    times = one.cpu_times()
                    self._cpu[one.pid] = max(self._cpu.get(one.pid, 0.0), times.user + times.system)
                    held += one.memory_full_info().pss if self._memory else 0
            self.peaks[name] = max(self.peaks.get(name, 0), held)
            total += held
        self.peaks["all"] = max(self.peaks.get("all", 0), total)

    def _tree(self, pid: int) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return [psutil.Process(pid), *_descendants(pid)]
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
