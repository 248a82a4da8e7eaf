"""What every training stage runs: batches in order, averages, and resumes to the last digit."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kneerisk_train.run.loop import Stage, fit, prefetch, trained_weights
from kneerisk_train.run.recipe import OptimConfig, load_recipe
from kneerisk_train.run.session import Session, keep_recipe, open_fabric
from torch import nn

from kneerisk.errors import KneeriskError, UsageError


def test_batches_come_in_order_and_once():
    made = []

    def make(step):
        made.append(step)
        return step * step

    assert list(prefetch(make, 3, 9)) == [9, 16, 25, 36, 49, 64]
    assert made == [3, 4, 5, 6, 7, 8]


def test_batches_of_several_threads_come_in_order_too():
    assert list(prefetch(lambda step: step, 0, 50, ahead=7, threads=3)) == list(range(50))


def test_an_error_in_a_batch_reaches_the_caller():
    def make(step):
        if step == 2:
            raise OSError("the disk is gone")
        return step

    with pytest.raises(OSError, match="the disk is gone"):
        list(prefetch(make, 0, 5))


class KilledError(Exception):
    """Stands in for a killed process."""


def session(out: Path) -> Session:
    return Session(
        load_recipe("debug"),
        SimpleNamespace(splits_sha256="s"),
        out,
        open_fabric("cpu", "fp32"),
        checkpoint_seconds=0.0,
    )


def train(out: Path, kill_at: int | None = None, steps: int = 12, scale: float = 1.0) -> dict:
    """A small training, killed before a step where asked; returns the averaged weights."""

    def batch(step, rng):
        return (torch.from_numpy(rng.normal(size=(16, 4)).astype(np.float32) * scale),)

    done = iter(range(steps + 1))

    def terms(module, arrays):
        if next(done) == kill_at:
            raise KilledError
        (inputs,) = arrays
        noisy = inputs + 0.1 * torch.randn_like(inputs)
        return {"squares": (module(noisy) - inputs.sum(1, keepdim=True)).square().mean()}

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 1))
    config = OptimConfig(steps=steps, learning_rate=0.05, warmup_steps=2, ema_decay=0.9)
    return fit(session(out), Stage("small", module, config, batch, terms)).state_dict()


def losses(out: Path) -> list[list[str]]:
    with (out / "small.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def test_a_killed_training_goes_on_to_the_same_losses_to_the_last_digit(tmp_path):
    whole = train(tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tmp_path / "cut", kill_at=5)
    # What a kill leaves behind: rows past the checkpoint, the last one torn.
    with (tmp_path / "cut" / "small.csv").open("a") as stream:
        stream.write("5,0.01,9.9,9.9\n6,0.0")
    resumed = train(tmp_path / "cut")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 13
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    kept = trained_weights(tmp_path / "cut", "small")
    assert all(torch.equal(value, kept[name]) for name, value in whole.items())


def test_a_finished_training_is_not_trained_again(tmp_path):
    first = train(tmp_path)
    again = train(tmp_path, kill_at=0)
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    with pytest.raises(KilledError):
        train(tmp_path, kill_at=3)
    state = torch.load(tmp_path / "small.checkpoint.pt", weights_only=True)
    torch.save(state | {"purpose": "another"}, tmp_path / "small.checkpoint.pt")
    with pytest.raises(UsageError, match="made for another recipe"):
        train(tmp_path)


def test_a_loss_that_is_no_number_stops_and_says_so(tmp_path):
    with pytest.raises(KneeriskError, match=r"the loss is (nan|inf) at step 0; lower its learning_rate"):
        train(tmp_path, scale=1e38)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    with pytest.raises(KilledError):
        train(tmp_path, kill_at=4)
    before = (tmp_path / "small.checkpoint.pt").read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(KneeriskError, match=r"cannot be written .*No space left.*make room"):
        train(tmp_path)
    assert (tmp_path / "small.checkpoint.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.writing"))


def test_a_stage_that_was_not_trained_is_named(tmp_path):
    with pytest.raises(UsageError, match="kneerisk train vqvae"):
        trained_weights(tmp_path, "vqvae")


def test_a_run_keeps_its_recipe(tmp_path):
    debug = load_recipe("debug")
    keep_recipe(debug, tmp_path)
    keep_recipe(load_recipe(str(tmp_path / "recipe.yaml")), tmp_path)
    with pytest.raises(UsageError, match="begun with another recipe"):
        keep_recipe(load_recipe("compact"), tmp_path)


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="finds no GPU"):
        open_fabric("cuda")
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        open_fabric("cpu", "fp16")
