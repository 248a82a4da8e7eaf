"""torch: the cross-check of the CPU backend, and the way onto a GPU; it runs a module that is passed in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from kneerisk_engines.backends import Request
from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.runner import Precision, Runner
from kneerisk_engines.spec import Array, ComponentSpec
from kneerisk_engines.weights import WEIGHTS_NAME, read_weights

if TYPE_CHECKING:
    from torch import nn


def open_runner(request: Request) -> Runner:
    """Open a module; BackendUnavailableError where torch is missing or does not run in the precision."""
    if request.module is None:
        raise EngineError(
            f"{request.spec.name}: the torch backend runs a module: pass module=, a function that builds it"
        )
    if request.precision == "fp16":
        raise BackendUnavailableError(
            "the backend torch does not run in fp16, TensorRT engines do: ask for bf16, fp32 or auto"
        )
    return TorchRunner(
        request.module,
        request.graph.with_name(WEIGHTS_NAME),
        request.spec,
        precision=request.precision,
        threads=request.threads,
        device=request.device,
    )


class TorchRunner(Runner):
    """A module with the shared file's weights, in float32, or in bf16 autocast with channels-last kernels."""

    def __init__(
        self,
        module: Callable[[], nn.Module],
        weights: Path,
        spec: ComponentSpec,
        *,
        precision: Literal["auto", "bf16", "fp32"] = "auto",
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        try:
            import torch
        except ImportError as error:
            raise BackendUnavailableError(
                "the torch backend needs torch, which is not installed: pip install 'kneerisk[train]', "
                "or choose the backend 'cpu'"
            ) from error
        if threads is not None:
            torch.set_num_threads(threads)  # torch has one setting for the whole process
        self._torch: Any = torch
        try:
            self._device = torch.device(device)
            torch.empty(0, device=self._device)
        except (RuntimeError, AssertionError) as error:
            what = (str(error).splitlines() or [""])[0]
            raise BackendUnavailableError(
                f"the torch backend cannot compute on {device!r} ({what}): name another device, such as cpu"
            ) from error
        chosen: Precision = _choose_precision(torch, self._device) if precision == "auto" else precision
        self._module = cast(Any, module()).float().eval().to(self._device)
        self._load(weights, spec.name)
        if chosen == "bf16":
            self._module.to(memory_format=torch.channels_last)
        super().__init__(spec, "torch", chosen)

    def _load(self, weights: Path, component: str) -> None:
        arrays, unused = read_weights(weights, component)
        state = {name: self._torch.from_numpy(array) for name, array in arrays.items()}
        missing, unknown = self._module.load_state_dict(state, strict=False)
        missing = sorted(set(missing) - unused)
        if missing or unknown:
            raise EngineError(
                f"{component}: module and {weights.name} disagree (missing {missing}, unknown {unknown}): "
                "build the module from the stack's own config"
            )

    def _infer(self, arrays: dict[str, Array]) -> dict[str, Array]:
        torch = self._torch
        tensors = [torch.from_numpy(arrays[array.name]).to(self._device) for array in self.spec.inputs]
        reduced = (
            torch.autocast(self._device.type, dtype=torch.bfloat16)
            if self.precision == "bf16"
            else nullcontext()
        )
        with torch.inference_mode(), reduced:
            results = self._module(*tensors)
        results = (results,) if isinstance(results, torch.Tensor) else results
        return {
            array.name: (result.float() if result.is_floating_point() else result).cpu().numpy()
            for array, result in zip(self.spec.outputs, results, strict=True)
        }

    def _release(self) -> None:
        del self._module


def _choose_precision(torch: Any, device: Any) -> Precision:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capable = torch.backends.cpu.get_cpu_capability()
    return "bf16" if "AVX512" in capable and torch.cpu._is_avx512_bf16_supported() else "fp32"
