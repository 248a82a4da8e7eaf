"""What an engine was built from and for: two that differ in any of it are different engines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields

_WORDS = {
    "onnx_sha256": "weights and graph",
    "spec_sha256": "input and output shapes",
    "batches": "batches (least, usual, most)",
    "version": "TensorRT version",
    "targets": "chips",
    "hardware_compatibility": "hardware compatibility",
    "compute_capability": "compute capability",
    "gpu": "GPU",
    "multiprocessors": "multiprocessors",
}


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on.  Names the folder it is kept in."""

    component: str
    onnx_sha256: str
    """Of the typed graph, weights included."""
    spec_sha256: str
    """Of the inputs' and outputs' names, types and shapes."""
    batches: tuple[int, int, int]
    """Least, usual, most."""
    flavour: str
    version: str
    """The flavour's, in full."""
    precision: str
    targets: tuple[str, ...]
    """Chips that tensorrt-rtx was told to build for, in order of their names."""
    hardware_compatibility: str
    deterministic: bool
    compute_capability: str | None
    """``sm90``; ``None`` where the engine was built without a GPU, as are the next two."""
    gpu: str | None
    multiprocessors: int | None
    """A slice of a GPU has fewer than the whole."""

    @property
    def digest(self) -> str:
        """SHA-256 over every field, hexadecimal."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """For a person to read, and as unique as the digest's first 16 digits."""
        return f"{self.component}-{self.precision}-{self.flavour}-{self.digest[:16]}"

    def differences(self, here: EngineKey) -> list[str]:
        """Say, a line each, how an engine of this key is not the one wanted here."""
        lines = []
        for field in fields(self):
            built, wanted = getattr(self, field.name), getattr(here, field.name)
            if built != wanted:
                word = _WORDS.get(field.name, field.name)
                lines.append(f"{word}: built for {_shown(built)}, here {_shown(wanted)}")
        return lines


def _shown(value: object) -> str:
    if value is None:
        return "none in particular"
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "any"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
