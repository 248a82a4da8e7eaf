"""The naive reference scores the same stack: the same answers, only slower."""

import csv
from pathlib import Path

import numpy as np
import pytest

from kneerisk.diffusion import sample

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
    from kneerisk.stack import Stack

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
