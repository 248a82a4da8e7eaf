"""Which engine runs here: only one of these weights, this TensorRT and this GPU, that was verified."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kneerisk_engines.errors import NoEngineFoundError
from kneerisk_engines.runner import Runner
from kneerisk_engines.tensorrt import open as engine_door
from kneerisk_engines.tensorrt.cache import EngineCache
from kneerisk_engines.tensorrt.gpu import Gpu
from kneerisk_engines.tensorrt.open import find_engine

from kneerisk.compile import choice as engine_choice
from kneerisk.compile.choice import choose
from kneerisk.compile.open import open_network
from kneerisk.errors import NoEngineError
from kneerisk.stack.stack import Stack

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX builds engines without a GPU")
H100 = Gpu("NVIDIA H100", "sm90", 132, "13.0")
COMPONENTS = ("localiser", "encoder", "unet", "classifier_now", "classifier_12m")
PASSED = {"failures": []}


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack.load("compact")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> EngineCache:
    """Real engines, portable, not verified."""
    from kneerisk.compile.build import CompileSettings, compile_stack

    cache = EngineCache(tmp_path_factory.mktemp("engines") / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kneerisk.compile.build.find_gpu", lambda: None)
        list(compile_stack(CompileSettings(flavour="tensorrt-rtx", gpu="portable"), cache))
    return cache


@pytest.fixture
def cache(built: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    """The same engines as if they had been verified; the report is the test's own."""
    monkeypatch.setenv("KNEERISK_CACHE", str(tmp_path / "cache"))
    cache = EngineCache()
    for engine in built.entries():
        cache.publish(engine.key, built.plan(engine), log="", verification=PASSED)
    return cache


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    for module in (engine_choice, engine_door):
        monkeypatch.setattr(module, "find_gpu", lambda device="cuda:0": H100)
    yield H100


def test_without_a_gpu_the_cpu_scores(stack: Stack, cache: EngineCache, monkeypatch) -> None:
    for module in (engine_choice, engine_door):
        monkeypatch.setattr(module, "find_gpu", lambda device="cuda:0": None)
    assert choose(stack, COMPONENTS, cache=cache).backend == "cpu"
    with pytest.raises(NoEngineError, match="take --backend cpu"):
        open_network(stack, "unet", "tensorrt", device="cuda:0")


def test_verified_engines_are_taken(stack: Stack, cache: EngineCache, gpu: Gpu) -> None:
    choice = choose(stack, COMPONENTS, cache=cache)
    assert (choice.backend, choice.device) == ("tensorrt", "cuda:0")
    assert find_engine(stack.graph("unet"), "unet", "auto", gpu, cache).key.precision == "fp16"
    # The encoder runs in float32 alone, and is looked for in that.
    assert choose(stack, COMPONENTS, "fp16", cache=cache).backend == "tensorrt"
    with pytest.raises(NoEngineFoundError):
        find_engine(stack.graph("encoder"), "encoder", "fp16", gpu, cache)


def test_engines_that_no_gpu_has_run_are_not(stack: Stack, built: EngineCache, gpu: Gpu) -> None:
    choice = choose(stack, COMPONENTS, cache=built)
    assert choice.backend == "torch"
    assert "not yet run and verified" in choice.why
    assert "kneerisk compile --stack compact --flavour tensorrt-rtx" in choice.why
    with pytest.raises(NoEngineError):
        choose(stack, COMPONENTS, policy="require", cache=built)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "9.9"}, "tensorrt-rtx: built for 9.9, here"),
        ({"gpu": "NVIDIA L4", "compute_capability": "sm89"}, "built for NVIDIA L4 .sm89., here NVIDIA H100"),
        ({"onnx_sha256": "0" * 64}, "weights and precision"),
    ],
)
def test_a_foreign_engine_is_refused_with_both_sides(
    stack: Stack, built: EngineCache, gpu: Gpu, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    cache = EngineCache(tmp_path / "foreign")
    (engine,) = (e for e in built.entries() if e.key.component == "unet")
    cache.publish(replace(engine.key, **changes), built.plan(engine), log="", verification=PASSED)
    with pytest.raises(NoEngineFoundError, match=said):
        find_engine(stack.graph("unet"), "unet", "fp16", gpu, cache)


def test_a_tampered_plan_never_reaches_the_runtime(
    stack: Stack, cache: EngineCache, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bytes] = []

    class Recorder(Runner):
        def __init__(self, plan, spec, *, flavour, precision, device):
            opened.append(plan)
            super().__init__(spec, flavour, precision)

        def _infer(self, arrays): ...

        def _release(self): ...

    monkeypatch.setattr(engine_door, "TensorRtRunner", Recorder)
    engine = find_engine(stack.graph("unet"), "unet", "auto", gpu, cache)
    runner = open_network(stack, "unet", "tensorrt", device="cuda:0")
    assert opened == [cache.plan(engine)]
    assert runner.engine_key == engine.key.digest
    plan = engine.folder / "plan"
    plan.write_bytes(b"evil" + plan.read_bytes()[4:])
    with pytest.raises(NoEngineError, match="was changed or damaged"):
        open_network(stack, "unet", "tensorrt", device="cuda:0")
    assert len(opened) == 1


@pytest.mark.gpu
def test_a_portable_engine_answers_as_the_cpu_does(stack: Stack, built: EngineCache) -> None:
    import numpy as np
    from kneerisk_engines.tensorrt.gpu import find_gpu
    from kneerisk_engines.tensorrt.runner import TensorRtRunner

    if find_gpu() is None:
        pytest.skip("no NVIDIA GPU that torch can see is here")
    (engine,) = (e for e in built.entries() if e.key.component == "classifier_12m")
    latent = np.random.default_rng(0).standard_normal((3, 8, 28, 28), np.float32)
    spec = stack.component("classifier_12m").spec
    with (
        TensorRtRunner(built.plan(engine), spec, flavour="tensorrt-rtx", precision="fp16") as fast,
        open_network(stack, "classifier_12m", "cpu", "fp32") as slow,
    ):
        arrays = {"latent": latent}
        np.testing.assert_allclose(fast.run(arrays)["kl"], slow.run(arrays)["kl"], atol=0.01)
