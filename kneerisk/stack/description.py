"""What a stack says of itself: its networks, and how they are run unless the user asks otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from kneerisk_engines.plain import from_plain, to_plain

from kneerisk.stack.components import (
    DISTILLED,
    StackComponent,
    components_from_plain,
    components_to_plain,
)


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
    distilled_steps: int | None = None
    """Steps in which the component ``unet_distilled`` forecasts; ``None`` where the stack has none."""
    usual_forecaster: str = "unet"
    """The U-Net that forecasts unless asked otherwise: ``unet_distilled`` where that is near enough."""

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
        if self.distilled_steps is not None and not 1 <= self.distilled_steps < self.steps:
            raise ValueError(f"distilled_steps {self.distilled_steps!r} must lie below steps, {self.steps}")
        if (self.distilled_steps is None) != (DISTILLED not in self.components):
            raise ValueError(f"distilled_steps and the component {DISTILLED} belong together")
        if self.usual_forecaster not in ("unet", DISTILLED) or (
            self.usual_forecaster == DISTILLED and self.distilled_steps is None
        ):
            raise ValueError(f"usual_forecaster {self.usual_forecaster!r} is no U-Net of this stack")
        for name, component in self.components.items():
            if name != component.spec.name:
                raise ValueError(f"components: {name!r} comes with the spec of {component.spec.name!r}")

    @property
    def mm_per_px(self) -> float:
        """Millimetres a pixel of the crop."""
        return self.field_of_view_mm / self.crop_size

    def usual_steps(self, *, samples: int = 1, seed: int = 0, upscale: bool = False) -> int:
        """Sampler steps unless the user asks for others.

        The distilled U-Net was taught from the first noise of seed 0, on crops as they are: whatever else is
        forecast takes the full sampler's steps, and so does everything where it is not the usual forecaster.
        """
        taught = samples == 1 and seed == 0 and not upscale and self.usual_forecaster == DISTILLED
        return self.distilled_steps if taught and self.distilled_steps is not None else self.steps

    def forecaster(self, steps: int) -> str:
        """The component that forecasts in so many steps: ``unet_distilled`` in its own, else ``unet``."""
        return DISTILLED if steps == self.distilled_steps else "unet"

    def networks(self, steps: int) -> tuple[str, ...]:
        """The components that predict from crops, forecasting in so many steps."""
        return ("encoder", self.forecaster(steps), "classifier_now", "classifier_12m")

    def to_plain(self) -> dict[str, Any]:
        """Plain values for YAML."""
        values: dict[str, Any] = to_plain(self) | {"components": components_to_plain(self.components)}
        if self.distilled_steps is None:
            del values["distilled_steps"], values["usual_forecaster"]
        return values

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], where: str) -> Self:
        """Read what :meth:`to_plain` gave; ValueError names a key that is missing, unknown or wrong."""
        components = components_from_plain(values.get("components", {}), f"{where}.components")
        return from_plain(cls, {**values, "components": components}, where)
