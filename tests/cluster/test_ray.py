"""A run on a real Ray cluster of two nodes on this machine, whose processes and nodes are killed.

The networks are made up (``tests/scoring/fake_chain.py``), all else is what users run.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import polars as pl
import psutil
import pytest

from kneerisk.cluster.bridge import ClusterError, address_of
from kneerisk.errors import UsageError
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.chain import Notice, Walk
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.journal.folder import folder_of
from kneerisk.scoring.outputs import table
from kneerisk.scoring.run import Progress, Summary, score_images
from kneerisk.scoring.settings import RunSettings, fingerprint
from kneerisk.scoring.spread import Errand, NodeWork, Spread, open_spread

HERE = Path(__file__).parent
NODES = HERE / "ray_nodes.py"
SCORING = HERE.parent / "scoring"
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'kneerisk[cluster]'"
)


@pytest.fixture(scope="module")
def fake() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_chain", SCORING / "fake_chain.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_chain"] = module
    spec.loader.exec_module(module)
    return module


class Nodes:
    """The cluster as a test leads it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.address = next(line.split()[1] for line in process.stdout if line.startswith("address "))

    def kill(self, number: int) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"kill {number}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "killed\n"

    def servers(self) -> list[psutil.Process]:
        """The processes of kneerisk on its nodes."""
        root = psutil.Process(self._process.pid)
        return [child for child in root.children(recursive=True) if "ray::Server" in _title(child)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    paths = [*sys.path, str(SCORING)]
    with tempfile.TemporaryDirectory(prefix="kr") as scratch:  # a socket's path must be short
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "RAY_TMPDIR": scratch,
        }
        process = subprocess.Popen(
            [sys.executable, NODES, "1", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        try:
            yield Nodes(process)
        finally:
            everything = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
            for one in everything:
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
            process.communicate()


@contextmanager
def spread(fake: ModuleType, address: str, run: RunSettings, pause: float = 0.0) -> Iterator[Spread]:
    walk = Walk(run.workers, run.timeout, run.batch_size)
    work = NodeWork(partial(fake.opened, pause), walk, pictures=False)
    expected = {"kneerisk_version": "test"}
    with open_spread(address, work, expected, fake.CALIBRATION, gpus=True) as opened:
        yield opened


def score(
    fake: ModuleType,
    folder: Path,
    nodes: Nodes,
    run: RunSettings,
    pause: float = 0.0,
    at: dict[int, Callable[[], None]] | None = None,
) -> list[Notice | Progress | Summary]:
    """Score on the cluster; ``at``: what happens when so many images are done."""
    steps: list[Notice | Progress | Summary] = []
    happens = dict(at or {})
    with spread(fake, nodes.address, run, pause) as scorer:
        assert scorer.provenance == fake.PROVENANCE
        marks = fingerprint(InputSettings((folder,)), run, scorer.provenance)
        for step in score_images(fake.scan(folder), {}, scorer, run, marks, Clock()):
            steps.append(step)
            for count in [count for count in happens if isinstance(step, Progress) and step.done >= count]:
                happens.pop(count)()
    assert not happens
    return steps


def rows(path: Path, *, without: str = "") -> pl.DataFrame:
    return table.read(path).filter(pl.col("source_path") != without).drop("image_index")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "cohort"
    folder.mkdir()
    words = ("one", "both", "one", "damaged", "both", "empty", "one", "poison", "one", "raise")
    for i in range(120):
        (folder / f"P{i:03d}.txt").write_text(f"{words[i % 10]} {i}")
    (folder / "P990.bad").write_text("")
    return folder


@needs_ray
def test_where_there_is_no_cluster_the_command_line_says_what_to_do(
    cli: Callable[..., int],
    many: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first of this file: no cluster is started yet."""
    if any(process.info["name"] == "gcs_server" for process in psutil.process_iter(["name"])):
        pytest.skip("another Ray cluster runs on this machine, and Ray would find it")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    out = tmp_path / "risks.parquet"
    assert cli("score", many, "--out", out, "--runner", "ray") == 2
    assert "start one (ray start --head), or name one by --ray-address" in capsys.readouterr().err
    assert not out.exists() and not folder_of(out).exists()


@needs_ray
def test_rows_are_those_of_one_machine_though_a_file_a_process_and_a_node_die(
    fake: ModuleType, nodes: Nodes, many: Path, tmp_path: Path
) -> None:
    alone, out = RunSettings(tmp_path / "alone.parquet"), tmp_path / "risks.parquet"
    fake.run(many, alone)
    (many / "P061.txt").write_text("kill 61")  # takes its server along, each time

    def kill_a_server() -> None:
        nodes.servers()[0].send_signal(signal.SIGKILL)

    at = {20: kill_a_server, 50: lambda: nodes.kill(1)}
    steps = score(fake, many, nodes, RunSettings(out, batch_size=2, workers=1), 0.02, at)
    assert rows(out, without="P061.txt").equals(rows(alone.out, without="P061.txt"))
    culprit = table.read(out).filter(source_path="P061.txt").rows(named=True)
    assert [(row["status"], row["reason"]) for row in culprit] == [("failed", "reader-crashed")]
    words = [step.message for step in steps if isinstance(step, Notice)]
    assert any("the process that scores there ended" in word for word in words), words
    assert isinstance(steps[-1], Summary) and steps[-1].images == 121
    assert not folder_of(out).exists()
    assert not nodes.servers()


@needs_ray
def test_a_run_that_is_left_leaves_no_process_and_goes_on_elsewhere(
    fake: ModuleType, nodes: Nodes, many: Path, tmp_path: Path
) -> None:
    """As after Ctrl-C; and a journal of the cluster is one of this machine."""
    out, alone = tmp_path / "risks.parquet", tmp_path / "alone.parquet"

    def leave() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(fake, many, nodes, RunSettings(out, batch_size=2, workers=1), 0.05, {30: leave})
    _wait_until(lambda: not nodes.servers())
    last = fake.run(many, RunSettings(out, resume=True))[-1]
    fake.run(many, RunSettings(alone))
    assert last.reused >= 30 and rows(out).equals(rows(alone))


@needs_ray
def test_a_head_that_dies_ends_the_run_in_words_and_resume_finishes(
    fake: ModuleType, nodes: Nodes, many: Path, tmp_path: Path
) -> None:
    """The last of this file: the cluster is gone behind it."""
    out, alone = tmp_path / "risks.parquet", tmp_path / "alone.parquet"
    with pytest.raises(ClusterError, match=r"the Ray cluster is gone: .*go on with --resume"):
        score(fake, many, nodes, RunSettings(out, batch_size=2, workers=1), 0.2, {10: lambda: nodes.kill(0)})
    assert folder_of(out).exists() and not out.exists()
    last = fake.run(many, RunSettings(out, resume=True))[-1]
    fake.run(many, RunSettings(alone))
    assert last.reused >= 10 and rows(out).equals(rows(alone))


@pytest.mark.parametrize("given", ["head", "head:port", "http://head:1", ":6379"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=r"HOST:PORT or auto; got"):
        address_of(given)


@pytest.mark.parametrize("given", ["ray://head:10001", "ray://head"])
def test_an_address_of_rays_client_is_refused_and_the_right_form_named(given: str) -> None:
    with pytest.raises(UsageError, match=r"client is not supported: .*HOST:PORT without ray://"):
        address_of(given)


def test_an_address_where_nothing_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(UsageError, match="nothing answers there"):
            address_of(f"127.0.0.1:{port}")
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        with pytest.raises(UsageError, match="nothing answers there"):
            address_of(None)
    monkeypatch.delenv("RAY_ADDRESS")
    assert address_of(None) == "auto"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ray-address", "head:6379"], "--ray-address goes with --runner ray"),
        (["--runner", "ray", "--dry-run"], "leave --runner ray out"),
        (["--runner", "ray", "--device", "cuda:1"], "--device cuda:1"),
        (["--runner", "ray", "--stack", "nowhere"], "nowhere"),
        (["--runner", "ray", "--steps", "0"], "--steps"),
    ],
)
def test_options_that_a_cluster_cannot_follow_are_refused(
    cli: Callable[..., int],
    many: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: str,
) -> None:
    assert cli("score", many, "--out", tmp_path / "risks.parquet", *options) != 0
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("risks*"))


def test_what_goes_to_a_node_can_be_pickled_and_its_clock_comes_back(
    fake: ModuleType, cohort_of_two: Path
) -> None:
    work = pickle.loads(pickle.dumps(NodeWork(partial(fake.opened, 0.0), Walk(1, None, 4), pictures=True)))
    errands = [Errand(i, item, None) for i, item in enumerate(fake.scan(cohort_of_two))]
    with work() as (identity, serve):
        first, second = serve(errands), serve(errands[:1])
    assert identity == fake.PROVENANCE
    assert [record.index for record in first.records] == [0, 1]
    assert len(first.knees) == 3 and len(second.knees) == 1
    assert first.seconds["read"] > 0 and second.seconds["read"] < sum(first.seconds.values())


@pytest.fixture
def cohort_of_two(tmp_path: Path) -> Path:
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "a.txt").write_text("one a")
    (folder / "b.txt").write_text("both b")
    return folder


def _elsewhere(item: object, path: Path) -> object:
    return replace(item, path=path)  # type: ignore[type-var]


def _wait_until(true: Callable[[], bool]) -> None:
    for _ in range(100):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come true in 10 s")


@needs_ray
def test_why_a_server_is_lost_is_told_from_rays_error() -> None:
    from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError

    from kneerisk.cluster.ray_grid import _words

    assert "for want of memory" in _words(OutOfMemoryError("killed by the monitor"))
    assert "for want of memory" in _words(RayError("its node was running low on memory"))
    assert "cannot be reached" in _words(ActorUnavailableError("no answer", None))
    assert "process that scores there ended" in _words(RayError("the worker died"))
