"""Which GPU is here: what an engine's key says of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU, or a slice of one."""

    name: str
    compute_capability: str
    """``sm90``."""
    multiprocessors: int
    cuda: str | None
    """CUDA version that torch was built for; recorded, and no part of a key."""


def why_no_gpu(device: str = "cuda:0") -> str | None:
    """Words for why nothing can compute on a device such as ``cuda:0``; ``None`` where it can.

    torch is loaded only beside a driver.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdecimal():
        return f"{device!r} names no NVIDIA GPU, as cuda:0 does"
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        return "no NVIDIA driver is here"
    try:
        import torch
    except ImportError:
        return "torch, which finds the GPU, is not installed: pip install 'kneerisk[gpu]'"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no NVIDIA GPU"
    count = torch.cuda.device_count()
    return None if int(index or 0) < count else f"torch sees {count} of them, counted from cuda:0"


def find_gpu(device: str = "cuda:0") -> Gpu | None:
    """The GPU that torch sees; ``None`` where :func:`why_no_gpu` has words for it."""
    if why_no_gpu(device) is not None:
        return None
    import torch

    found: Any = torch.cuda.get_device_properties(device)
    return Gpu(found.name, f"sm{found.major}{found.minor}", found.multi_processor_count, torch.version.cuda)
