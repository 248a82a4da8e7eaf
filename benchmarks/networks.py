"""How near the networks come to what this processor can do, and what holds them back.

For every network that scoring runs: floating-point operations a knee, time, their ratio against the measured
peak of a matrix multiplication in the same precision, and how the time is shared between dense layers, which
can come near that peak, and those that only move memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from kneerisk_engines.openvino_backend import import_openvino
from kneerisk_engines.runner import Runner

from kneerisk.compile.open import open_network
from kneerisk.stack.stack import Stack

SECONDS = 1.5
"""Measured for at least so long, each."""
RUNS = (("cpu", "auto"), ("cpu", "fp32"), ("torch", "auto"), ("torch", "fp32"))
"""(backend, precision): ``auto`` is bf16 where the chip has it."""
_DENSE = {"Convolution", "ConvolutionBackpropData", "Deconvolution", "MatMul", "FullyConnected"}
_DEPTHWISE = {"GroupConvolution"}


@dataclass(frozen=True)
class Network:
    """One network of a backend in a precision, run as scoring runs it."""

    name: str
    backend: str
    asked: str
    """Precision asked for."""
    precision: str
    """That it ran in."""
    calls: int
    """Items a knee."""
    gflop: float
    """A knee, all its items."""
    ms: float
    """A knee."""
    peak_share: float
    """Of the measured peak in that precision."""
    dense: float | None
    """Share of the layers' time in dense convolutions and multiplications; ``None``: no profile is had."""
    depthwise: float | None
    """In depthwise convolutions."""


def peak_gflops(precision: str, threads: int, size: int = 2048) -> float:
    """GFLOP/s of this many processors at their best: square matrix multiplications, by two libraries.

    torch multiplies matrices by MKL, which holds back on processors not of its maker; a convolution of one
    pixel is the same multiplication by oneDNN, as OpenVINO uses it.
    """
    import torch

    torch.set_num_threads(threads)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = torch.randn(2, size, size).to(kind)
    side = 32
    pixels = (
        torch.randn(size // side**2, size, side, side).to(kind).contiguous(memory_format=torch.channels_last)
    )
    kernel = torch.randn(size, size, 1, 1).to(kind)
    ways = (lambda: a @ b, lambda: torch.nn.functional.conv2d(pixels, kernel))
    best = float("inf")
    with torch.no_grad():
        for multiply in ways:
            until = time.perf_counter() + SECONDS
            while time.perf_counter() < until:
                start = time.perf_counter()
                multiply()
                best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def calls_a_knee(stack: Stack, steps: int) -> dict[str, int]:
    """Network → items a knee: two looks of the localiser, every zoom, every step."""
    zooms = len(stack.description.grade_zooms)
    return {"localiser": 2, "encoder": zooms, "unet": steps, "classifier_now": zooms, "classifier_12m": 1}


def measure_networks(stack: Stack, threads: int, steps: int) -> Iterator[Network]:
    """Each network in each of ``RUNS``, at the stack's micro-batch, two calls at once where that can be."""
    peaks: dict[str, float] = {}
    for backend, asked in RUNS:
        for name, calls in calls_a_knee(stack, steps).items():
            batch = 2 if name == "localiser" else stack.description.micro_batch
            with open_network(
                stack, name, backend, asked, threads=threads, parallel=min(2, threads)
            ) as runner:
                ms = calls * ms_an_item(runner, batch)
                precision = runner.precision
            if precision not in peaks:
                peaks[precision] = peak_gflops(precision, threads)
            gflop = calls * gflop_an_item(stack, name)
            shares = layer_shares(stack, name, precision) if backend == "cpu" else (None, None)
            share = gflop / (ms / 1000) / peaks[precision]
            yield Network(name, backend, asked, precision, calls, gflop, ms, share, *shares)


def ms_an_item(runner: Runner, batch: int) -> float:
    """Milliseconds an item, with as many calls at once as the runner takes."""
    rng = np.random.default_rng(0)
    arrays = {a.name: rng.random((batch, *a.shape), dtype=np.float32) for a in runner.spec.inputs}

    def keep_calling(until: float) -> int:
        calls = 0
        while time.perf_counter() < until:
            runner.run(arrays)
            calls += 1
        return calls

    with ThreadPoolExecutor(runner.parallel) as threads:
        list(threads.map(lambda _: runner.run(arrays), range(2 * runner.parallel)))
        start = time.perf_counter()
        calls = sum(threads.map(keep_calling, [start + SECONDS] * runner.parallel))
        spent = time.perf_counter() - start
    return 1000 * spent / (calls * batch)


def gflop_an_item(stack: Stack, name: str) -> float:
    """GFLOP an item, counted by torch: a multiplication and an addition are two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from kneerisk.models import build

    entry = stack.component(name)
    module = build(name, dict(entry.config)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*(torch.zeros(1, *array.shape) for array in entry.spec.inputs))
    return counter.get_total_flops() / 1e9


def layer_shares(stack: Stack, name: str, precision: str) -> tuple[float, float]:
    """Shares of OpenVINO's time in dense and in depthwise layers; the rest moves memory."""
    ov = import_openvino()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERF_COUNT": True,
    }
    compiled = ov.Core().compile_model(stack.folder / f"{name}.onnx", "CPU", settings)
    rng = np.random.default_rng(0)
    batch = stack.description.micro_batch
    spec = stack.component(name).spec
    arrays = {a.name: rng.random((batch, *a.shape), dtype=np.float32) for a in spec.inputs}
    request = compiled.create_infer_request()
    for _ in range(3):
        request.infer(arrays)
    spent = [(layer.node_type, layer.real_time.total_seconds()) for layer in request.get_profiling_info()]
    whole = sum(seconds for _, seconds in spent)
    dense, depthwise = (
        sum(seconds for kind, seconds in spent if kind in kinds) / whole for kinds in (_DENSE, _DEPTHWISE)
    )
    return dense, depthwise
