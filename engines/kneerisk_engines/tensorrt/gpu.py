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


def find_gpu(device: str = "cuda:0") -> Gpu | None:
    """The GPU that torch sees; ``None`` without one, or without torch, which loads only beside a driver."""
    if shutil.which("nvidia-smi") is None and not Path("/dev/nvidiactl").exists():
        return None
    try:
        import torch
    except ImportError:
        return None
    if not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    found: Any = torch.cuda.get_device_properties(device)
    return Gpu(found.name, f"sm{found.major}{found.minor}", found.multi_processor_count, torch.version.cuda)
