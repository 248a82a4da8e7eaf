"""What a user asks of the machine is done, or refused with words: never left out in silence."""

from __future__ import annotations

from typing import Any

import pytest
from kneerisk_engines.tensorrt.gpu import Gpu, why_no_gpu

from kneerisk.compile import choice as engine_choice
from kneerisk.compile.choice import resolve
from kneerisk.compile.open import open_network
from kneerisk.errors import NoEngineError, UsageError
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.cohort import validate_cohort
from kneerisk.scoring.settings import RunSettings, StackSettings
from kneerisk.stack.stack import Stack


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack.load("compact")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "find_gpu", lambda device="cuda:0": None)
    monkeypatch.setattr(engine_choice, "why_no_gpu", lambda device="cuda:0": "no NVIDIA driver is here")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"policy": "require"}, "--engine-policy require .* no NVIDIA driver is here; leave it out"),
        ({"policy": "build"}, "--engine-policy build .* leave it out"),
        ({"device": "cuda:0"}, "--device cuda:0 cannot be used: no NVIDIA driver is here; leave it out"),
        ({"device": "cuda:0", "policy": "fallback"}, "--device cuda:0 cannot be used"),
    ],
)
def test_what_asks_for_a_gpu_does_not_end_on_the_cpu(stack: Stack, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(NoEngineError, match=words):
        resolve(stack, ("unet",), **asked)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_word_the_cpu_scores(stack: Stack) -> None:
    for policy in (None, "fallback"):
        assert resolve(stack, ("unet",), policy=policy).backend == "cpu"  # type: ignore[arg-type]


def test_the_cpu_that_was_asked_for_is_taken_before_a_gpu(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_choice, "find_gpu", lambda device="cuda:0": Gpu("H100", "sm90", 132, "13.0"))
    assert resolve(stack, ("unet",), device="cpu").backend == "cpu"


@pytest.mark.parametrize(
    ("backend", "asked", "words"),
    [
        ("cpu", {"policy": "require"}, "--engine-policy require .* --backend cpu uses none"),
        ("torch", {"policy": "build"}, "--backend torch uses none"),
        ("cpu", {"device": "cuda:0"}, "--device cuda:0: --backend cpu computes on the CPU"),
        ("tensorrt", {"device": "cpu"}, "--device cpu: TensorRT engines run on a GPU"),
        ("auto", {"device": "cpu", "policy": "require"}, "--device cpu: TensorRT engines run on a GPU"),
    ],
)
def test_words_that_contradict_each_other_are_refused(
    stack: Stack, backend: str, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(stack, ("unet",), backend, **asked)


@pytest.mark.usefixtures("no_gpu")
def test_a_dry_run_says_it_too(tmp_path) -> None:
    with pytest.raises(NoEngineError, match="--device cuda:0"):
        list(validate_cohort(InputSettings((tmp_path,)), StackSettings(device="cuda:0"), RunSettings()))


def test_a_gpu_is_named_as_cuda_and_a_number() -> None:
    for device in ("gpu", "cuda:first", "xpu:0"):
        assert "names no NVIDIA GPU" in str(why_no_gpu(device))


def test_torch_says_what_it_cannot_compute_on(stack: Stack) -> None:
    torch = pytest.importorskip("torch")
    for device in ("gpu", *([] if torch.cuda.is_available() else ["cuda:0"])):
        with pytest.raises(NoEngineError, match=f"cannot compute on '{device}' .* name another device"):
            open_network(stack, "unet", "torch", device=device)
