"""The naive reference scores the same stack: the same answers, only slower."""

import csv
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from kneerisk.method.diffusion import sample

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
