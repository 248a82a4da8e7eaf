"""torch modules → weightless ONNX graphs that all point into one safetensors file.

The file holds each weight once (see :mod:`.weights`); a graph's initialisers are ONNX external data at
the weights' own offsets, so OpenVINO, ONNX Runtime and torch read the very same bytes.  Graphs and weights
lie in one folder, because both runtimes refuse external data outside the graph's own folder.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kneerisk_engines.errors import ExportError
from kneerisk_engines.spec import Array, ComponentSpec
from kneerisk_engines.weights import WEIGHTS_NAME, StoredTensor, graph_file, stored_form, write_weights

if TYPE_CHECKING:
    import onnx
    import onnx_ir
    from torch import Tensor, nn

OPSET = 20
INLINE_LIMIT = 64 * 1024
"""Bytes of a constant that may lie in a graph itself; anything larger belongs among the weights."""


def export_components(folder: Path, components: Mapping[str, tuple[nn.Module, ComponentSpec]]) -> list[Path]:
    """Write ``weights.safetensors`` and one ``<component>.onnx`` each into a folder; return the paths.

    A module takes the spec's inputs as positional tensors, in order, and returns one tensor or a tuple in the
    order of the outputs.  It is traced in eval mode, in float32, with a symbolic batch.  Persistent buffers
    that the graph does not use (step counters, a codebook's usage) stay out of the file, which notes their
    names; a parameter that it does not use is an error: publish modules that hold only what they run.
    ExportError where a module, its spec and its weights disagree.
    """
    tensors: dict[str, Array] = {}
    unused: list[str] = []
    graphs: dict[str, onnx.ModelProto] = {}
    for name, (module, spec) in components.items():
        if name != spec.name:
            raise ExportError(f"component {name!r} comes with the spec of {spec.name!r}")
        module = copy.deepcopy(module).cpu().float().eval()
        graphs[name] = _trace(module, spec)
        used = {tensor.name for tensor in graphs[name].graph.initializer}
        if idle := sorted({parameter for parameter, _ in module.named_parameters()} - used):
            raise ExportError(
                f"{name}: the graph does not use {', '.join(idle)} (for training only, or tied to another): "
                "leave them out of the module that is published"
            )
        for key, value in module.state_dict().items():
            if key in used:
                tensors[f"{name}.{key}"] = _stored(f"{name}.{key}", value)
            else:
                unused.append(f"{name}.{key}")
    places = write_weights(folder / WEIGHTS_NAME, tensors, unused)
    paths = [folder / WEIGHTS_NAME]
    for name, graph in graphs.items():
        _point_at_weights(graph, name, places)
        paths.append(folder / graph_file(name))
        paths[-1].write_bytes(graph.SerializeToString(deterministic=True))
    return paths


def _stored(name: str, tensor: Tensor) -> Array:
    if not tensor.is_floating_point():
        raise ExportError(f"{name} is {tensor.dtype}: register it with persistent=False, as a constant")
    return stored_form(name, tensor.detach().numpy())


def _trace(module: nn.Module, spec: ComponentSpec) -> onnx.ModelProto:
    """Trace a module: parameters become named initialisers, constants are folded, weights are left alone."""
    import onnx_ir
    import torch

    examples = tuple(
        torch.zeros((2, *array.shape), dtype=getattr(torch, array.dtype)) for array in spec.inputs
    )
    with torch.no_grad():
        results = module(*examples)
    results = (results,) if isinstance(results, torch.Tensor) else tuple(results)
    if len(results) != len(spec.outputs):
        raise ExportError(f"{spec.name} returns {len(results)} tensors; its spec names {len(spec.outputs)}")
    spec.check_outputs({a.name: r.numpy() for a, r in zip(spec.outputs, results, strict=True)}, batch=2)

    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # torch's own, about its own internals and about inputs sharing one batch
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            opset_version=OPSET,
            input_names=[array.name for array in spec.inputs],
            output_names=[array.name for array in spec.outputs],
            dynamic_shapes=tuple({0: batch} for _ in spec.inputs),
            optimize=False,
            verbose=False,
        )
        if program is None:
            raise ExportError(f"{spec.name}: torch.onnx.export gave no program")
        _fold_constants(program.model)
    for function in program.model.functions.values():
        raise ExportError(f"{spec.name}: the graph calls the function {function.name}, which no runtime has")
    return onnx_ir.to_proto(program.model)


def _fold_constants(model: onnx_ir.Model) -> None:
    """Run the exporter's optimiser with the weights hidden, so that none is folded, fused or renamed."""
    from onnxscript import optimizer

    graph = model.graph
    weights = list(graph.initializers.values())
    values = [weight.const_value for weight in weights]
    graph.initializers.clear()
    for weight in weights:
        weight.const_value = None
    arity = len(graph.inputs)
    graph.inputs.extend(weights)
    optimizer.optimize(model)
    del graph.inputs[arity:]
    for weight, value in zip(weights, values, strict=True):
        weight.const_value = value
        if weight.uses():
            graph.initializers[_name(weight)] = weight


def _name(value: onnx_ir.Value) -> str:
    if value.name is None:
        raise ExportError("the exporter left a weight without a name")
    return value.name


def _point_at_weights(model: onnx.ModelProto, component: str, places: Mapping[str, StoredTensor]) -> None:
    """Replace each weight's bytes by its place in the weights file, cast to float32 where that is float16."""
    import onnx
    from onnx import helper

    casts = []
    kept = []
    for tensor in model.graph.initializer:
        place = places.get(f"{component}.{tensor.name}")
        if place is None:
            if len(tensor.raw_data) > INLINE_LIMIT:
                raise ExportError(
                    f"{component}: constant {tensor.name!r} of {len(tensor.raw_data)} bytes is not among the "
                    "weights: register it as a persistent buffer"
                )
            kept.append(tensor)
            continue
        if tuple(tensor.dims) != place.shape:
            raise ExportError(
                f"{component}: {tensor.name!r} is {list(tensor.dims)} in the graph, {place.shape} on disk"
            )
        half = place.dtype == np.float16
        kept.append(_external(f"{tensor.name}.f16" if half else tensor.name, place))
        if half:
            casts.append(
                helper.make_node("Cast", [f"{tensor.name}.f16"], [tensor.name], to=onnx.TensorProto.FLOAT)
            )
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend([*casts, *nodes])
    _drop_provenance(model)


def _external(name: str, place: StoredTensor) -> onnx.TensorProto:
    import onnx

    tensor = onnx.TensorProto(
        name=name,
        dims=place.shape,
        data_type=onnx.helper.np_dtype_to_tensor_dtype(place.dtype),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    entries: dict[str, Any] = {"location": WEIGHTS_NAME, "offset": place.offset, "length": place.length}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _drop_provenance(model: onnx.ModelProto) -> None:
    """Leave out the exporter's notes: they quote source paths of the machine that exported."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
