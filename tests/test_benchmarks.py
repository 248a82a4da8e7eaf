"""The naive reference scores the same stack: the same answers, only slower."""

import csv
import importlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kneerisk.errors import Reason
from kneerisk.method.diffusion import sample
from kneerisk.places import objects
from kneerisk.records import RadiographRef, Refusal

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def velocity(noisy: np.ndarray, current: np.ndarray, time: np.ndarray) -> np.ndarray:
    return np.tanh(noisy - current + time[:, None, None, None]).astype(np.float32)


@pytest.mark.parametrize(("steps", "apart"), [(1, 1e-6), (2, 1e-6), (400, 0.01)])
def test_ddim_goes_where_the_sampler_goes(steps: int, apart: float) -> None:
    from benchmarks.naive import ddim

    current, noise = np.random.default_rng(0).standard_normal((2, 3, 2, 4, 4)).astype(np.float32)
    found = ddim(lambda arrays: {"velocity": velocity(**arrays)}, current, noise, steps)
    np.testing.assert_allclose(found, sample(velocity, current, noise, steps), atol=apart)


def test_the_reference_scores_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import naive
    from kneerisk.stack.stack import Stack

    monkeypatch.setattr(naive, "STEPS", 2)
    knees = sorted((ROOT / "examples" / "cohort").glob("*/*[LR].png"))[:2]
    assert len(knees) == 2
    with (tmp_path / "two.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path"], *([str(knee)] for knee in knees)])
    found = naive.run_naive(tmp_path / "two.csv", Stack.load("compact"))
    assert found.knees == 2
    assert found.knees_per_second > 0
    assert len(found.risks) == 2
    assert all(0 <= risk <= 1 for risk in found.risks.values())


def test_a_run_is_timed_as_users_start_it(tmp_path: Path) -> None:
    from benchmarks.bench import measure

    (knee,) = sorted((ROOT / "examples" / "cohort").glob("*/*L.png"))[:1]
    found = measure("one", [knee], 2, cpus=1, steps=2, folder=tmp_path)
    assert (found.images, found.knees) == (2, 2)
    assert found.peak_rss_mb > 100 and {"read", "networks"} <= set(found.stages)


def test_the_localisers_tables_are_written_as_json_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.accuracy import localiser
    from benchmarks.accuracy.confounders import Count

    found, counted = localiser.Tally(films=2, knees=3, found=3), Count()
    counted.add([Refusal(RadiographRef(Path("a"), "a"), Reason.IMPLANT, "metal")], grade=4)
    monkeypatch.setattr(localiser, "rows", lambda *_: [("films", lambda: found), ("others", lambda: found)])
    monkeypatch.setattr(localiser, "counts", lambda *_: [("films of metal", lambda: counted)])
    monkeypatch.setattr(localiser, "val_knees", lambda _: None)
    table = tmp_path / "table.json"
    given = ["--data", str(tmp_path), "--rows", "films", "--json", str(table)]
    monkeypatch.setattr(sys, "argv", ["localiser", *given])
    localiser.main()
    written = json.loads(table.read_text())
    assert list(written) == ["films", "films of metal"] and written["films"]["found"] == 3
    metal = written["films of metal"]
    assert (metal["metal"], metal["reasons"], metal["images_by_grade"]) == (1, {"implant": 1}, {"4": 1})


def test_white_margins_are_drawn_on_three_sides() -> None:
    from benchmarks.accuracy.confounders import margined

    crop = np.full((224, 224), 0.5, np.float32)
    crop[100, 100] = 0.9
    drawn = margined(crop) == np.float32(0.9)
    assert drawn[:, 0].all() and drawn[:, -1].all() and drawn[-1].all() and not drawn[0, 60:180].any()
    assert 0.2 < drawn.mean() < 0.4 and crop[0, 0] == 0.5


def test_networks_are_counted_as_often_as_scoring_calls_them() -> None:
    from benchmarks.networks import calls_a_knee
    from kneerisk.compile.open import open_network
    from kneerisk.method.predict import ForecastSettings, ForwardPass, StackPredictor
    from kneerisk.radiograph.knees import find_knees
    from kneerisk.radiograph.settings import InputSettings
    from kneerisk.stack.components import PREDICTING
    from kneerisk.stack.stack import Stack

    stack = Stack.load("compact")
    description = stack.description
    steps = description.steps
    called: Counter[str] = Counter()
    with ExitStack() as kept:

        def counted(name: str) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
            runner = kept.enter_context(open_network(stack, name))

            def run(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                called[name] += len(next(iter(arrays.values())))
                return runner.run(arrays)

            return run

        forward = ForwardPass(
            {name: counted(name) for name in PREDICTING},
            micro_batch=1,
            grade_zooms=description.grade_zooms,
        )
        predictor = StackPredictor(forward, ForecastSettings(steps))
        localiser = kept.enter_context(open_network(stack, "localiser"))
        cohort = InputSettings((ROOT / "examples" / "cohort",), id_from="folder")
        (crop,) = find_knees(cohort, localiser, most=1)
        predictor.predict([crop], [predictor.views(crop)])
    assert called == {
        name: calls for name, calls in calls_a_knee(stack, steps).items() if name != "localiser"
    }


def test_the_time_of_layers_is_shared_out() -> None:
    from benchmarks.networks import gflop_an_item, layer_shares
    from kneerisk.stack.stack import Stack

    stack = Stack.load("compact")
    dense, depthwise = layer_shares(stack, "localiser", "fp32")
    assert depthwise == 0
    assert 0.2 < dense < 1
    # The decoder's first layer alone: 28 x 28 positions, 3 x 3 x 8 inputs, 64 outputs, two operations each.
    assert gflop_an_item(stack, "decoder") > 28 * 28 * 9 * 8 * 64 * 2 / 1e9


def test_a_knees_networks_together_reach_the_share_of_the_peak_that_their_time_does() -> None:
    from benchmarks.bench import totals
    from benchmarks.networks import Network

    fast = Network("a", "cpu", "auto", "bf16", 1, 3.0, 10.0, 0.9, None, None)
    slow = Network("b", "cpu", "auto", "fp32", 1, 1.0, 30.0, 0.1, None, None)
    other = Network("a", "torch", "auto", "bf16", 1, 3.0, 20.0, 0.45, None, None)
    together, alone = totals([fast, slow, other])
    assert (together["ms"], together["gflop"]) == (40.0, 4.0)
    assert together["peak_share"] == pytest.approx((10 * 0.9 + 30 * 0.1) / 40)
    assert alone["peak_share"] == pytest.approx(0.45)


def test_the_bench_measures_nothing_on_a_busy_machine(monkeypatch):
    from benchmarks import bench

    monkeypatch.setattr(bench.psutil, "cpu_percent", lambda interval: 100 * bench.MOST_LOAD + 1)
    with pytest.raises(SystemExit, match="16% of this machine's processors"):
        bench.refuse_loaded()
    monkeypatch.setattr(bench.psutil, "cpu_percent", lambda interval: 100 * bench.MOST_LOAD - 1)
    bench.refuse_loaded()


def test_the_peak_is_the_better_of_two_ways_to_multiply(monkeypatch):
    import torch

    from benchmarks import networks

    monkeypatch.setattr(networks, "SECONDS", 0.02)
    threads = torch.get_num_threads()
    try:
        usual = networks.peak_gflops("fp32", 1, size=1024)
        monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *_: None)  # takes no time at all
        assert networks.peak_gflops("fp32", 1, size=1024) > 10 * usual
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("scale")


def test_a_simulated_run_costs_what_its_parts_cost(scale: ModuleType) -> None:
    """One stage at a time, against arithmetic by hand."""
    nothing = scale.Costs(**dict.fromkeys(scale.Costs.__slots__, 0.0))
    free = scale.Assumed(images=1000, latency=0, bandwidth=1e9, store_requests=1e12, spread=0)
    most = max(Counter(scale.Shard.part_of(scale.key_of(i), 4) for i in range(1000)).values())
    assert 250 < most < 300

    def run(workers: int, listed_once: bool = False, assumed: Any = free, **costs: float) -> Any:
        return scale.simulate(workers, replace(nothing, **costs), assumed, listed_once=listed_once)

    assert run(1, infer_image=2.0).whole == pytest.approx(1000 * 2.0 / 2)
    assert run(4, infer_image=2.0).whole == pytest.approx(most * 2.0 / 2)
    assert run(4, image_bytes=2e9).whole == pytest.approx(most * 2.0)
    assert run(4, start=3.0).whole == pytest.approx(3.0)
    assert run(4, first_bytes=1.0).scan == pytest.approx(1000)
    assert run(4, first_bytes=1.0, listed_once=True).scan == pytest.approx(most)
    assert run(4, list_object=1.0, listed_once=True).listing == pytest.approx(1000)
    assert run(4, knees_an_image=2.0, merge_row=0.5, merge_part=7.0).merge == pytest.approx(1000 + 28)
    assert run(1, knees_an_image=2.0, merge_row=0.5, merge_part=7.0).merge == 0
    slow = replace(free, store_requests=10.0)
    assert run(4, assumed=slow).scan == pytest.approx(4 * 1000 / 10)
    assert run(4, assumed=slow, listed_once=True).scan == pytest.approx(1000 / 10)
    assert run(4, assumed=replace(free, spread=0.2), infer_image=2.0).whole > most


def test_the_simulated_store_is_listed_whole_whatever_it_does(
    scale: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listing, store = (importlib.import_module(name) for name in ("listing", "simulated_store"))
    with store.SimulatedStore(store.StoreSettings(1300, faults=0.05)) as server:
        for name, value in store.environment(server.url).items():
            monkeypatch.setenv(name, value)
        objects._opened.cache_clear()
        listing.measure(1300, str)
        answered, spoilt = server.told()
    objects._opened.cache_clear()
    assert answered > 1300 and spoilt > 20
    assert capsys.readouterr().out.count("1,300 objects, all found") == 2


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("cluster")


def test_the_first_difference_of_two_tables_is_named(cluster: ModuleType) -> None:
    import polars as pl

    rows = [(0, "R", "a.dcm", 0.1), (0, "L", "a.dcm", float("nan")), (1, "R", "b.dcm", 0.3)]
    frame = pl.DataFrame(rows, ["image_index", "side", "source_path", "risk"], orient="row")
    other = frame.with_columns(risk=pl.col("risk").replace(0.3, 0.1 + 0.2))
    assert cluster.first_difference(frame, frame.clone()) is None
    assert cluster.first_difference(frame, other) == f"b.dcm R: risk is 0.3 and {0.1 + 0.2}"
    assert cluster.first_difference(frame, frame.head(2)) == "3 rows and 2"
    assert cluster.first_difference(frame, frame.reverse()) == "the same rows in another order"
    assert "columns differ" in cluster.first_difference(frame, frame.drop("risk"))
    hidden = frame.with_columns(risk=pl.col("risk").fill_nan(None))
    assert cluster.first_difference(frame, hidden) == "a value that is no number in one of them"


def test_the_stubs_of_the_memorys_measure_score_what_the_reader_reads(
    cluster: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kneerisk.radiograph import knees
    from kneerisk.radiograph.settings import InputSettings
    from kneerisk.scoring.clock import Clock
    from kneerisk.scoring.run import score_images
    from kneerisk.scoring.settings import RunSettings, fingerprint

    memory = importlib.import_module("cluster_memory")
    monkeypatch.syspath_prepend(str(memory.STUBS))
    inputs, run = (
        InputSettings((memory.write_images(tmp_path / "small", 27),)),
        RunSettings(tmp_path / "r.csv"),
    )
    images, skipped = knees.list_images(inputs)
    with memory.stubs(inputs, 120.0, Clock()) as rooms:
        marks = fingerprint(inputs, run, rooms.provenance)
        done = list(score_images(images, skipped.counts, rooms, run, marks, Clock()))[-1]
    assert (done.images, done.ok, done.failed + done.refused) == (27, 26, 1)


def test_a_watch_sees_the_memory_and_the_processor_time_of_a_tree(cluster: ModuleType) -> None:
    work = "import time; kept = bytearray(64 << 20); t = time.process_time()\n"
    work += "while time.process_time() < t + 1: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    process = subprocess.Popen([sys.executable, "-c", child])
    with cluster.Watch(process.pid, memory=True) as watch:
        process.wait()
    assert watch.peaks["all"] > 64 << 20
    assert watch.cpu_seconds > 0.4
