"""The one copy of the weights: a safetensors file whose names are ``component.parameter``.

Format: https://huggingface.co/docs/safetensors (8 bytes of header length, a JSON header, then the tensors'
bytes), so a tensor's place in the file is known and an ONNX graph can point at it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kneerisk_engines.errors import EngineError
from kneerisk_engines.spec import Array

WEIGHTS_NAME = "weights.safetensors"
"""The weights file's name, beside the graphs that point into it."""

STORED: dict[str, np.dtype[Any]] = {"F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}


def graph_file(component: str) -> str:
    """Name a component's graph file, which lies beside the weights."""
    return f"{component}.onnx"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies in the weights file, in bytes from the file's start."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    length: int


def stored_form(name: str, values: Array) -> Array:
    """Round the values as the file holds them: matrices and kernels float16, vectors and scalars float32.

    Vectors (biases, norms, running variances) are a thousandth of the bytes and may leave float16's range.
    EngineError where a value is not finite, or too large for float16 (65,504).
    """
    values = np.asarray(values, dtype=np.float32)
    with np.errstate(over="ignore"):  # told below, with the weight's name
        stored = values.astype(np.float16 if values.ndim >= 2 else np.float32)
    if not np.isfinite(stored).all():
        raise EngineError(
            f"weight {name!r} holds values that are not finite in {stored.dtype}: train it again or scale it"
        )
    return stored


def write_weights(path: Path, tensors: Mapping[str, Array], unused: Sequence[str]) -> dict[str, StoredTensor]:
    """Write tensors that are float16 or float32 and say where each one lies.

    ``unused`` names what the modules hold beside them and never read when they run; the file notes it.
    """
    from safetensors.numpy import save_file

    contiguous = {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={"unused": " ".join(sorted(unused))})
    return locate_weights(path)


def locate_weights(path: Path) -> dict[str, StoredTensor]:
    """Read the header alone: each tensor's dtype, shape and place.

    EngineError where the file says that its header has more bytes than the file.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            raise EngineError(f"{path.name} is damaged: its header is said to have {length} bytes")
        header = json.loads(file.read(length))
    start = 8 + length
    return {
        name: StoredTensor(
            STORED[entry["dtype"]],
            tuple(entry["shape"]),
            start + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def read_weights(path: Path, component: str) -> tuple[dict[str, Array], set[str]]:
    """Read one component: its weights as float32, and the names that it never reads; both without its prefix.

    EngineError where the file holds no such component.
    """
    from safetensors import safe_open

    prefix = f"{component}."
    with safe_open(path, framework="numpy") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (no mapping)
        tensors = {name.removeprefix(prefix): file.get_tensor(name).astype(np.float32) for name in names}
        noted = (file.metadata() or {}).get("unused", "").split()
    if not tensors:
        raise EngineError(f"{path.name} holds no weights of {component!r}")
    return tensors, {name.removeprefix(prefix) for name in noted if name.startswith(prefix)}


def replace_weights(path: Path, component: str, values: Mapping[str, Array]) -> None:
    """Write other values of one component into a weights file, every other byte as it was.

    Graphs hold no weight and point into the file by offset, so they stay as they are.

    Args:
        path: the weights file.
        component: whose weights are replaced.
        values: each of its weights by name, without the component's prefix; rounded as :func:`stored_form`.

    Raises:
        EngineError: a weight is missing, of another shape, or too large to be stored.
    """
    from safetensors import safe_open

    places = locate_weights(path)
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in places}
        unused = (file.metadata() or {}).get("unused", "").split()
    for name in tensors:
        if not name.startswith(f"{component}.") or name in unused:
            continue
        value = values.get(name.removeprefix(f"{component}."))
        if value is None or value.shape != tensors[name].shape:
            found = "missing" if value is None else f"of shape {value.shape}"
            raise EngineError(f"weight {name!r} is {found}, and the graph wants {tensors[name].shape}")
        tensors[name] = stored_form(name, value)
    if write_weights(path, tensors, unused) != places:
        raise EngineError(f"{path.name} is laid out in another way than this version writes: publish it anew")
