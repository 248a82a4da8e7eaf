"""What a component promises: which named arrays go in and come out, of what dtype and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from kneerisk_engines.errors import ArrayMismatchError

DType = Literal["float32", "int64", "int32", "uint8", "bool"]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One named array, batch first: ``shape`` is one item's, so the array is [B, *shape] with any B ≥ 1."""

    name: str
    shape: tuple[int, ...] = ()
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"array name {self.name!r}: give a plain identifier such as 'latent'")
        if self.dtype not in get_args(DType):
            raise ValueError(f"array {self.name!r}: dtype {self.dtype!r} is not one of {get_args(DType)}")
        if any(not isinstance(n, int) or n < 1 for n in self.shape):
            raise ValueError(f"array {self.name!r}: shape {self.shape} must hold whole numbers of at least 1")

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join(['B', *map(str, self.shape)])}]"

    def check(self, array: object, where: str) -> int:
        """Return the batch size of ``array``; ArrayMismatchError where it is not what this spec says."""
        if not isinstance(array, np.ndarray):
            raise ArrayMismatchError(f"{where} wants {self}; got a {type(array).__name__}")
        found = f"{array.dtype} {list(array.shape)}"
        if array.dtype != np.dtype(self.dtype):
            raise ArrayMismatchError(
                f"{where} wants {self}; got {found}: convert it with .astype({self.dtype!r})"
            )
        if array.shape[1:] != self.shape or array.ndim != len(self.shape) + 1 or array.shape[0] < 1:
            raise ArrayMismatchError(f"{where} wants {self} with B of at least 1; got {found}")
        return int(array.shape[0])


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """An array of a file, below its name: an :class:`ArraySpec` without it."""

    dtype: DType
    shape: tuple[int, ...]


Arrays = Mapping[str, ArrayForm]
"""By their names, in their order."""


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A network's name and its inputs and outputs, in the order of its module's arguments and results."""

    name: str
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"component name {self.name!r}: give a plain identifier such as 'encoder'")
        for kind, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [spec.name for spec in specs]
            if not names or len(set(names)) != len(names):
                raise ValueError(f"{self.name}: its {kind} {names} must be one or more distinct names")
        shared = {spec.name for spec in self.inputs} & {spec.name for spec in self.outputs}
        if shared:
            raise ValueError(f"{self.name}: {sorted(shared)} name both an input and an output")

    def check_inputs(self, arrays: Mapping[str, Array]) -> int:
        """Return the batch size of all inputs; ArrayMismatchError names the array that does not fit."""
        return self._check(arrays, self.inputs, "input")

    def check_outputs(self, arrays: Mapping[str, Array], batch: int) -> None:
        """ArrayMismatchError unless every output is there, as specified, with ``batch`` items."""
        found = self._check(arrays, self.outputs, "output")
        if found != batch:
            raise ArrayMismatchError(f"{self.name} was given {batch} items and returned {found}")

    def _check(self, arrays: Mapping[str, Array], specs: tuple[ArraySpec, ...], kind: str) -> int:
        wanted = {spec.name for spec in specs}
        if missing := sorted(wanted - set(arrays)):
            raise ArrayMismatchError(
                f"{self.name} lacks the {kind} {', '.join(missing)}; got {sorted(arrays)}"
            )
        if unknown := sorted(set(arrays) - wanted):
            raise ArrayMismatchError(
                f"{self.name} has no {kind} named {', '.join(unknown)}; it has {sorted(wanted)}"
            )
        batches = {
            spec.name: spec.check(arrays[spec.name], f"{self.name}'s {kind} {spec.name!r}") for spec in specs
        }
        if len(set(batches.values())) > 1:
            raise ArrayMismatchError(f"{self.name}: the {kind}s differ in batch size: {batches}")
        return next(iter(batches.values()))

    def to_arrays(self) -> dict[str, Arrays]:
        """Its inputs and outputs by their names."""
        return {
            "inputs": {array.name: ArrayForm(array.dtype, array.shape) for array in self.inputs},
            "outputs": {array.name: ArrayForm(array.dtype, array.shape) for array in self.outputs},
        }

    @classmethod
    def from_arrays(cls, name: str, inputs: Arrays, outputs: Arrays) -> Self:
        """Join what :meth:`to_arrays` took apart; ValueError where the names do not go together."""
        taken, given = (
            tuple(ArraySpec(array, form.shape, form.dtype) for array, form in arrays.items())
            for arrays in (inputs, outputs)
        )
        return cls(name, taken, given)
