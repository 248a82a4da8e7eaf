"""What a stack says of itself: its networks, and how they are run unless the user asks otherwise."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kneerisk_engines.plain import from_plain, to_plain

from kneerisk.stack.components import (
    StackComponent,
    components_from_plain,
    components_to_plain,
)

_RETIRED = frozenset({"distilled_steps", "usual_forecaster"})
"""Said by stacks before 0.4.0, which score no more but may still start a training."""


_PLAIN_NAME = re.compile(r"\w[\w.+-]{0,99}")
_MOST = {"crop_size": 2048, "field_of_view_mm": 1000, "steps": 1000, "samples": 10_000, "micro_batch": 4096}
"""Bounds of a description: a stack from elsewhere must not ask for all the memory there is."""
_MOST_LATENT = 1 << 20


def is_plain_name(name: str) -> bool:
    """Whether a name is one file's or folder's in the folder it is put into, on any system."""
    return _PLAIN_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class StackDescription:
    """What ``stack.yaml`` says, the files' hashes aside."""

    name: str
    version: str
    summary: str
    """One line: what it is, and of which data."""
    crop_size: int
    """Pixels a side of the square crop that the encoder sees."""
    field_of_view_mm: float
    """Millimetres a side of that crop."""
    latent_shape: tuple[int, int, int]
    """Channels, height, width of a knee's latent."""
    steps: int
    """Sampler steps a future, unless the user asks for others."""
    samples: int
    """Futures of each knee, unless the user asks for others."""
    micro_batch: int
    """Items a network call holds, always: a row must not depend on its neighbours."""
    grade_zooms: tuple[float, ...]
    """Zooms of the crop at which the grade now is read (:mod:`kneerisk.method.views`); the first is 1."""
    components: Mapping[str, StackComponent]
    upscales: bool = False
    """Whether it was trained on crops upscaled as ``--upscale`` does; on others that would mislead it."""

    def __post_init__(self) -> None:
        if not self.name.replace("-", "_").isidentifier():
            raise ValueError(f"name {self.name!r}: use letters, digits, '-' and '_'")
        if not (is_plain_name(self.version) and is_plain_name(f"{self.name}-{self.version}")):
            # The two are the name of the folder that an imported stack gets.
            raise ValueError(
                f"version {self.version!r}: use letters, digits, '.', '-', '_' and '+', at most 100 with the "
                "name"
            )
        for number, most in _MOST.items():
            value = getattr(self, number)
            if not 0 < value <= most:
                raise ValueError(f"{number} {value!r} must be a number above 0 and at most {most}")
        if any(side < 1 for side in self.latent_shape) or math.prod(self.latent_shape) > _MOST_LATENT:
            raise ValueError(
                f"latent_shape {self.latent_shape!r} must be three whole numbers of at least 1, "
                f"their product at most {_MOST_LATENT}"
            )
        if self.grade_zooms[:1] != (1,) or not all(0.5 <= zoom <= 2 for zoom in self.grade_zooms):
            raise ValueError(f"grade_zooms {self.grade_zooms!r} must start with 1 and lie in 0.5..2")
        if not self.components:
            raise ValueError("components: a stack holds at least one")
        for name, component in self.components.items():
            if name != component.spec.name:
                raise ValueError(f"components: {name!r} comes with the spec of {component.spec.name!r}")

    @property
    def mm_per_px(self) -> float:
        """Millimetres a pixel of the crop."""
        return self.field_of_view_mm / self.crop_size

    def to_plain(self) -> dict[str, Any]:
        """Plain values for YAML."""
        values: dict[str, Any] = to_plain(self) | {"components": components_to_plain(self.components)}
        return values

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], where: str) -> Self:
        """Read what :meth:`to_plain` gave; ValueError names a key that is missing, unknown or wrong."""
        values = {key: value for key, value in values.items() if key not in _RETIRED}
        components = components_from_plain(values.get("components", {}), f"{where}.components")
        return from_plain(cls, {**values, "components": components}, where)
