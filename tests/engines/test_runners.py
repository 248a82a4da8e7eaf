import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kneerisk_engines.backends import Request, open_runner
from kneerisk_engines.batches import run_in_batches
from kneerisk_engines.errors import ArrayMismatchError, BackendUnavailableError, EngineError
from kneerisk_engines.openvino_backend import import_openvino
from kneerisk_engines.parity import Parity, compare

# Of tiny untrained networks with values of order 1; a bf16 number has 8 bits of mantissa.
FP32 = 1e-4
BF16 = 0.1


def bf16_here() -> bool:
    ov = import_openvino()

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def open_one(exported, name: str, backend: str = "cpu", **options):
    request = Request(exported.graph(name), exported.specs[name], module=exported.modules[name], **options)
    return open_runner(request, backend)


def worst(parity: Parity) -> float:
    """The largest difference of any output; infinite where a value is not finite."""
    return max(np.inf if output.not_finite else output.max_abs for output in parity.outputs.values())


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("name", ["coder", "forecaster"])
def test_openvino_agrees_with_torch_in_float32(exported, name: str, batch: int) -> None:
    with (
        open_one(exported, name, backend="torch", precision="fp32") as torch_runner,
        open_one(exported, name, backend="cpu", precision="fp32") as cpu_runner,
    ):
        parity = compare(torch_runner, cpu_runner, exported.arrays(name, batch))
        assert (parity.reference, parity.candidate) == ("torch fp32", "cpu fp32")
        assert worst(parity) <= FP32


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_bf16_stays_near_float32(exported, backend: str) -> None:
    if backend == "cpu" and not bf16_here():
        pytest.skip("this CPU has no bf16")
    with (
        open_one(exported, "forecaster", backend="cpu", precision="fp32") as reference,
        open_one(exported, "forecaster", backend=backend, precision="bf16") as reduced,
    ):
        assert reduced.precision == "bf16"
        parity = compare(reference, reduced, exported.arrays("forecaster", 3))
        assert 0 < worst(parity) <= BF16  # above 0: it did run in another precision


def test_bf16_does_not_round_the_angles_of_the_time_embedding(exported) -> None:
    if not bf16_here():
        pytest.skip("this CPU has no bf16")
    arrays = exported.arrays("forecaster", 1)
    errors = {}
    with (
        open_one(exported, "forecaster", precision="fp32") as reference,
        open_one(exported, "forecaster", precision="bf16") as reduced,
    ):
        for time in (0.5, 0.99):  # 0.5 has an exact bf16 form; 0.99 would be off by 2 rad at 992 rad
            parity = compare(reference, reduced, arrays | {"time": np.array([time], np.float32)})
            errors[time] = parity.outputs["velocity"].mean_abs
    assert errors[0.99] < 3 * errors[0.5]


def test_the_runtimes_read_the_same_file_as_torch_wrote(exported) -> None:
    import torch

    module = exported.modules["coder"]().eval()
    state = {
        k: v.half().float() if v.ndim > 1 else v for k, v in exported.trained["coder"].state_dict().items()
    }
    module.load_state_dict(state)
    arrays = exported.arrays("coder", 2)
    with torch.inference_mode():
        expected = module(torch.from_numpy(arrays["image"]))
    with open_one(exported, "coder", precision="fp32") as runner:
        found = runner.run(arrays)
    for name, values in zip(("latent", "level"), expected, strict=True):
        np.testing.assert_allclose(found[name], values.numpy(), atol=FP32)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_row_does_not_depend_on_its_neighbours_at_a_fixed_size(exported, precision: str) -> None:
    arrays = exported.arrays("forecaster", 11)
    order = np.random.default_rng(1).permutation(11)
    with open_one(exported, "forecaster", precision=precision) as runner:
        together = run_in_batches(runner.run, arrays, 4)
        shuffled = run_in_batches(runner.run, {k: v[order] for k, v in arrays.items()}, 4)
        alone = run_in_batches(runner.run, {k: v[6:7] for k, v in arrays.items()}, 4)
    for name, values in together.items():
        assert values.shape[0] == 11
        np.testing.assert_array_equal(shuffled[name], values[order])
        np.testing.assert_array_equal(alone[name], values[6:7])


@pytest.mark.parametrize("name", ["coder", "forecaster"])
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_network_of_large_layers_takes_a_call_item_by_item(
    exported, name: str, precision: str, monkeypatch
) -> None:
    arrays = exported.arrays(name, 3)
    monkeypatch.setattr("kneerisk_engines.openvino_backend._LARGEST_LAYER", 1)
    with open_one(exported, name, precision=precision) as runner:
        together = runner.run(arrays)
        alone = [runner.run({key: array[i : i + 1] for key, array in arrays.items()}) for i in range(3)]
    for key, values in together.items():
        np.testing.assert_array_equal(values, np.concatenate([one[key] for one in alone]))


def test_outputs_belong_to_the_caller(exported) -> None:
    with open_one(exported, "coder", precision="fp32") as runner:
        first = runner.run(exported.arrays("coder", 2, seed=0))
        kept = {name: array.copy() for name, array in first.items()}
        runner.run(exported.arrays("coder", 2, seed=1))
        for name, array in first.items():
            np.testing.assert_array_equal(array, kept[name])


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_calls_from_many_threads_give_what_one_thread_gets(exported, backend: str) -> None:
    inputs = [exported.arrays("forecaster", 2, seed=seed) for seed in range(12)]
    with open_one(exported, "forecaster", backend=backend, precision="fp32", parallel=2) as runner:
        assert runner.parallel == (2 if backend == "cpu" else 1)
        alone = [runner.run(arrays) for arrays in inputs]
        with ThreadPoolExecutor(6) as threads:
            together = list(threads.map(runner.run, inputs))
    for one, other in zip(alone, together, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_first_calls_from_two_threads_do_not_hang(exported) -> None:
    script = (
        "import sys, threading, numpy as np\n"
        "from pathlib import Path\n"
        "from kneerisk_engines.backends import Request, open_runner\n"
        "from kneerisk_engines.spec import ArraySpec, ComponentSpec\n"
        "sys.setswitchinterval(1e-6)\n"
        "arrays = lambda shapes: tuple(ArraySpec(name, tuple(shape)) for name, shape in shapes)\n"
        f"spec = ComponentSpec('coder', arrays({shapes_of(exported.specs['coder'].inputs)!r}), "
        f"arrays({shapes_of(exported.specs['coder'].outputs)!r}))\n"
        f"with open_runner(Request(Path({str(exported.graph('coder'))!r}), spec, parallel=2)) as runner:\n"
        "    given = {a.name: np.zeros((2, *a.shape), np.float32) for a in spec.inputs}\n"
        "    ready = threading.Barrier(2)\n"
        "    call = lambda: (ready.wait(), runner.run(given))\n"
        "    threads = [threading.Thread(target=call) for _ in range(2)]\n"
        "    [thread.start() for thread in threads]\n"
        "    [thread.join() for thread in threads]\n"
    )
    for _ in range(4):
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60, cwd=Path(__file__).parents[2])


def shapes_of(arrays) -> list[tuple[str, list[int]]]:
    return [(array.name, list(array.shape)) for array in arrays]


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_arrays_are_checked_before_the_network_runs(exported, backend: str) -> None:
    with open_one(exported, "coder", backend=backend) as runner:
        with pytest.raises(ArrayMismatchError, match="'image'"):
            runner.run({"image": np.zeros((1, 1, 16, 16), np.float32)})
        with pytest.raises(ArrayMismatchError, match="no input named picture"):
            runner.run(exported.arrays("coder", 1) | {"picture": np.zeros(1, np.float32)})


def test_a_strided_view_gives_the_same_as_its_copy(exported) -> None:
    wide = np.random.default_rng(0).random((2, 1, 32, 64), dtype=np.float32)
    with open_one(exported, "coder", precision="fp32") as runner:
        view = runner.run({"image": wide[..., ::2]})
        copy = runner.run({"image": wide[..., ::2].copy()})
    np.testing.assert_array_equal(view["latent"], copy["latent"])


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_a_closed_runner_says_so(exported, backend: str) -> None:
    runner = open_one(exported, "coder", backend=backend)
    runner.close()
    runner.close()
    with pytest.raises(EngineError, match="closed"):
        runner.run(exported.arrays("coder", 1))


def test_what_cannot_run_says_what_can(exported) -> None:
    with pytest.raises(BackendUnavailableError, match=r"unknown backend 'gpu'.*cpu, torch, tensorrt"):
        open_one(exported, "coder", backend="gpu")
    for backend in ("cpu", "torch"):
        with pytest.raises(BackendUnavailableError, match=rf"{backend} does not run in fp16, TensorRT"):
            open_one(exported, "coder", backend, precision="fp16")
    with pytest.raises(EngineError, match="pass module="):
        open_runner(Request(exported.graph("coder"), exported.specs["coder"]), "torch")
    with pytest.raises(EngineError, match=r"nothing\.onnx is missing"):
        open_runner(Request(exported.folder / "nothing.onnx", exported.specs["coder"]))


def test_a_damaged_graph_is_named(exported, tmp_path) -> None:
    (tmp_path / "coder.onnx").write_bytes(exported.graph("coder").read_bytes()[:500])
    (tmp_path / "weights.safetensors").write_bytes((exported.folder / "weights.safetensors").read_bytes())
    with pytest.raises(EngineError, match=r"coder\.onnx"):
        open_runner(Request(tmp_path / "coder.onnx", exported.specs["coder"]))


def test_another_module_than_the_weights_is_refused(exported) -> None:
    with pytest.raises(EngineError, match=r"coder: module and weights\.safetensors disagree"):
        other = exported.modules["forecaster"]
        open_runner(Request(exported.graph("coder"), exported.specs["coder"], module=other), "torch")


def test_parity_measures_what_differs_and_counts_what_is_not_finite(exported) -> None:
    arrays = exported.arrays("coder", 2)
    with (
        open_one(exported, "coder", precision="fp32") as reference,
        open_one(exported, "coder", precision="fp32") as candidate,
    ):
        infer = candidate._infer
        candidate._infer = lambda given: {  # type: ignore[method-assign]
            "latent": infer(given)["latent"] + np.float32(0.5),
            "level": np.array([np.nan, 0.0], np.float32),
        }
        parity: Parity = compare(reference, candidate, arrays)
        assert parity.outputs["latent"].max_abs == pytest.approx(0.5, abs=1e-6)
        assert parity.outputs["level"].not_finite == 1
