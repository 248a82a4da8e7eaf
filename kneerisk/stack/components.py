"""One network of a stack: what it takes and gives, its terms, and how its module is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kneerisk_engines.plain import from_plain, to_plain
from kneerisk_engines.spec import Arrays, ComponentSpec

PREDICTING = ("encoder", "unet", "classifier_now", "classifier_12m")
"""The components that predict from crops."""


@dataclass(frozen=True, slots=True)
class StackComponent:
    """One network of a stack."""

    spec: ComponentSpec
    terms: str
    """The licence and terms of its weights, as a sentence."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What ``kneerisk.models.build(component, config)`` needs to build the module."""
    float32_only: bool = False
    """Whether it always runs in float32, whatever is asked: where rounding may flip a choice of code."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A component as ``stack.yaml`` has it, below its name."""

    terms: str
    float32_only: bool
    inputs: Arrays
    outputs: Arrays
    config: Mapping[str, Any]


def components_to_plain(components: Mapping[str, StackComponent]) -> dict[str, Any]:
    """Components by name → plain values for YAML."""
    return {
        name: to_plain(
            _Entry(
                terms=component.terms,
                float32_only=component.float32_only,
                **component.spec.to_arrays(),
                config=component.config,
            )
        )
        for name, component in components.items()
    }


def components_from_plain(values: object, where: str) -> dict[str, StackComponent]:
    """Read what :func:`components_to_plain` gave; ValueError names a missing, unknown or wrong key."""
    entries = from_plain(dict[str, _Entry], values, where)
    return {
        name: StackComponent(
            ComponentSpec.from_arrays(name, entry.inputs, entry.outputs),
            entry.terms,
            entry.config,
            entry.float32_only,
        )
        for name, entry in entries.items()
    }
