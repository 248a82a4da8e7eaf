"""What a stack says of itself: its networks, and how they are run unless the user asks otherwise."""

from __future__ import annotations

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
        for number in ("crop_size", "field_of_view_mm", "steps", "samples", "micro_batch"):
            value = getattr(self, number)
            if not value > 0:
                raise ValueError(f"{number} {value!r} must be a number above 0")
        if any(side < 1 for side in self.latent_shape):
            raise ValueError(f"latent_shape {self.latent_shape!r} must be three whole numbers of at least 1")
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
