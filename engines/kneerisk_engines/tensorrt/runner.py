"""A TensorRT engine, of either flavour, as a runner; torch holds the device's memory and streams."""

from __future__ import annotations

from typing import Any

import numpy as np

from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.runner import Precision, Runner
from kneerisk_engines.spec import Array, ComponentSpec
from kneerisk_engines.tensorrt.flavour import Flavour, open_flavour


class TensorRtRunner(Runner):
    """Runs a plan that the cache has verified; batches above the plan's largest go in pieces.

    Args:
        plan: the serialised engine; an engine is code, so only bytes from the cache belong here.
        spec: of the component.
        flavour: ``tensorrt`` or ``tensorrt-rtx``: what built it.
        precision: that it was built in.
        device: a CUDA device, such as ``cuda:0``.

    Raises:
        BackendUnavailableError: torch or TensorRT is missing, there is no GPU, or the GPU refuses the plan.
        EngineError: the plan's inputs and outputs are not the spec's.
    """

    def __init__(
        self,
        plan: bytes,
        spec: ComponentSpec,
        *,
        flavour: Flavour,
        precision: Precision,
        device: str = "cuda:0",
    ) -> None:
        trt = open_flavour(flavour).module
        try:
            import torch
        except ImportError as error:
            raise BackendUnavailableError(
                "the tensorrt backend needs torch for the GPU's memory: pip install 'kneerisk[gpu]'"
            ) from error
        if not torch.cuda.is_available():
            raise BackendUnavailableError(
                "torch finds no NVIDIA GPU here: score with --backend cpu, or look at kneerisk doctor"
            )
        self._torch: Any = torch
        self._device = torch.device(device)
        with torch.cuda.device(self._device):
            self._logger = trt.Logger(trt.Logger.ERROR)
            self._runtime = trt.Runtime(self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                name = torch.cuda.get_device_name(self._device)
                raise BackendUnavailableError(
                    f"{spec.name}: this engine does not load on {name}: build it here with kneerisk compile"
                )
            self._context = self._engine.create_execution_context()
            self._stream = self._torch.cuda.Stream(self._device)
        self._largest = self._check(spec)
        super().__init__(spec, flavour, precision)

    def _check(self, spec: ComponentSpec) -> int:
        """The largest batch of the plan, once its names and shapes are the spec's."""
        names = {self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)}
        wanted = {array.name for array in (*spec.inputs, *spec.outputs)}
        if names != wanted:
            raise EngineError(
                f"{spec.name}: the engine has {sorted(names)}, the stack wants {sorted(wanted)}"
            )
        largest = []
        for array in spec.inputs:
            *_, most = self._engine.get_tensor_profile_shape(array.name, 0)
            if tuple(most)[1:] != array.shape:
                raise EngineError(
                    f"{spec.name}: the engine's {array.name} is {tuple(most)[1:]}, not {array.shape}"
                )
            largest.append(int(most[0]))
        return min(largest)

    def _infer(self, arrays: dict[str, Array]) -> dict[str, Array]:
        count = len(next(iter(arrays.values())))
        parts = [
            self._run({name: array[start : start + self._largest] for name, array in arrays.items()})
            for start in range(0, count, self._largest)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        torch = self._torch
        batch = len(next(iter(arrays.values())))
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            held = {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}
            outputs = {
                array.name: torch.empty(
                    (batch, *array.shape), dtype=getattr(torch, array.dtype), device=self._device
                )
                for array in self.spec.outputs
            }
            for name, tensor in held.items():
                self._context.set_input_shape(name, tuple(tensor.shape))
            for name, tensor in (held | outputs).items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise EngineError(f"{self.spec.name}: TensorRT could not run a batch of {batch}")
            found = {name: tensor.cpu().numpy() for name, tensor in outputs.items()}
        self._stream.synchronize()
        return found

    def _release(self) -> None:
        del self._context, self._engine, self._runtime
