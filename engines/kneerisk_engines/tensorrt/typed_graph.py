"""A stack's graph with its precision stated in the graph's own types, and its weights inside.

TensorRT 11 takes types from the graph, not from flags.  In a low precision only the large operations (those
with a weight) and the cheap ones between them change type; softmax, norms, sines, reductions, soft-argmax and
whatever leads to the choice of a code stay in float32, because there rounding bends probabilities first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.runner import Precision
from kneerisk_engines.spec import Array

if TYPE_CHECKING:
    import onnx

LARGE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Low where one of their inputs is a weight."""
_NOT_IN_BF16 = frozenset({"ConvTranspose"})
"""TensorRT-RTX 1.7 cannot infer the types of a bfloat16 deconvolution."""
FOLLOWERS = frozenset(
    {
        "Add", "AveragePool", "Clip", "Concat", "Expand", "Flatten", "HardSwish", "Identity", "LeakyRelu",
        "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split",
        "Squeeze", "Sub", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Low where all that reaches them, constants aside, is."""
CHOICES = frozenset({"ArgMax", "ArgMin", "TopK"})
"""What leads to these, back to the last convolution, stays float32: the nearest code is a cliff."""
_ALWAYS_FLOAT32_INPUTS = {"Resize": (1, 2)}
"""Inputs that ONNX fixes to float32: a region and scales."""


def typed_graph(graph: Path, precision: Precision) -> onnx.ModelProto:
    """Read a component's graph beside its weights and state a precision in its types.

    Inputs and outputs keep their types, so whoever runs the graph need not know.  The same files give the
    same bytes.

    Args:
        graph: ``<component>.onnx`` beside ``weights.safetensors``.
        precision: ``fp32``, ``fp16`` or ``bf16``.

    Raises:
        BackendUnavailableError: another precision is asked for, or onnx is not installed.
        EngineError: the graph cannot be read, or has parts that no type can be given to.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            f"graphs are typed with onnx, which is not here ({error}): pip install 'kneerisk[rtx]' or "
            "'kneerisk[gpu]'"
        ) from error

    if precision not in ("fp32", "fp16", "bf16"):
        raise BackendUnavailableError(
            f"no engine is built in {precision}: this version builds fp32, fp16 and bf16"
        )
    try:
        model = onnx.load(graph, load_external_data=True)
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise EngineError(f"{graph} cannot be read: {error}") from error
    _hold_constants(model)
    if precision != "fp32":
        _Typing(model, precision).apply()
    onnx.checker.check_model(model)
    return model


def _hold_constants(model: onnx.ModelProto) -> None:
    """Turn the casts of stored weights, and nodes that hold a constant, into float32 initialisers."""
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in held and node.attribute[0].i == TensorProto.FLOAT:
            held[node.output[0]] = held[node.input[0]].astype(np.float32)
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            held[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input} | {output.name for output in graph.output}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array, order="C"), name)
        for name, array in held.items()
        if name in used
    )


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX element type of every tensor that has one."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


class _Typing:
    """One pass over a float32 graph, in its topological order."""

    def __init__(self, model: onnx.ModelProto, precision: Precision) -> None:
        import onnx

        self._graph = model.graph
        self._low: int = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[precision]
        self._float: int = onnx.TensorProto.FLOAT
        self._large = LARGE - _NOT_IN_BF16 if precision == "bf16" else LARGE
        self._types = _element_types(model)
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._protected = self._leading_to_choices()
        self._lowered: set[str] = set()
        """Tensors that are low now, by their old names."""
        self._casts: dict[tuple[str, bool], str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def apply(self) -> None:
        """Give every node its types, and cast at the borders, each tensor once."""
        outputs = {value.name for value in self._graph.output}
        for index, node in enumerate(self._graph.node):
            if any(attribute.HasField("g") for attribute in node.attribute):
                raise EngineError(f"node {node.name} ({node.op_type}) holds a graph: none can be typed")
            low = self._is_low(index, node)
            fixed = _ALWAYS_FLOAT32_INPUTS.get(node.op_type, ())
            for place, name in enumerate(node.input):
                if self._types.get(name) == self._float:
                    node.input[place] = self._as(name, low=low and place not in fixed)
            self._nodes.append(node)
            if low:
                for place, name in enumerate(node.output):
                    if self._types.get(name) == self._float:
                        self._lower_output(node, place, name, name in outputs)
        del self._graph.node[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input} | outputs
        kept = [tensor for name, tensor in self._constants.items() if name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _is_low(self, index: int, node: onnx.NodeProto) -> bool:
        if index in self._protected:
            return False
        floats = [name for name in node.input if self._types.get(name) == self._float]
        if node.op_type in self._large and any(
            name in self._constants and len(self._constants[name].dims) >= 2 for name in floats
        ):
            return True
        flowing = [name for name in floats if name not in self._constants]
        return node.op_type in FOLLOWERS and bool(flowing) and all(n in self._lowered for n in flowing)

    def _lower_output(self, node: onnx.NodeProto, place: int, name: str, is_output: bool) -> None:
        self._lowered.add(name)
        if not is_output:
            return
        node.output[place] = f"{name}.low"
        self._casts[name, True] = f"{name}.low"
        self._cast(f"{name}.low", name, self._float)

    def _as(self, name: str, *, low: bool) -> str:
        """A float tensor's name in the type wanted."""
        if name in self._constants:
            return self._constant(name, low=low)
        if (name, low) in self._casts:
            return self._casts[name, low]
        if (name in self._lowered) == low:
            return name
        new = f"{name}.{'low' if low else 'float32'}"
        self._cast(name, new, self._low if low else self._float)
        self._casts[name, low] = new
        return new

    def _cast(self, source: str, target: str, to: int) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node("Cast", [source], [target], name=f"cast.{target}", to=to))

    def _constant(self, name: str, *, low: bool) -> str:
        from onnx import numpy_helper

        if not low:
            return name
        new = f"{name}.low"
        if new not in self._constants:
            array = numpy_helper.to_array(self._constants[name])
            self._constants[new] = _low_tensor(array, new, self._low)
        return new

    def _leading_to_choices(self) -> set[int]:
        """Places of the nodes between the last convolutions and a choice."""
        nodes = list(self._graph.node)
        maker = {name: index for index, node in enumerate(nodes) for name in node.output}
        found: set[int] = set()
        waiting = [index for index, node in enumerate(nodes) if node.op_type in CHOICES]
        while waiting:
            index = waiting.pop()
            if index not in found and not nodes[index].op_type.startswith("Conv"):
                found.add(index)
                waiting += _places(maker, nodes[index].input)
        return found


def _places(maker: dict[str, int], names: Iterable[str]) -> list[int]:
    return [maker[name] for name in names if name in maker]


def _low_tensor(array: Array, name: str, kind: int) -> onnx.TensorProto:
    import ml_dtypes
    import onnx

    types: dict[int, Any] = {
        onnx.TensorProto.FLOAT16: np.float16,
        onnx.TensorProto.BFLOAT16: ml_dtypes.bfloat16,
    }
    with np.errstate(over="ignore"):  # told below, with the constant's name
        rounded = array.astype(types[kind])
    if not np.isfinite(rounded.astype(np.float32)).all():
        raise EngineError(f"constant {name!r} has values that float16 cannot hold: build in bf16 or fp32")
    return onnx.TensorProto(name=name, dims=array.shape, data_type=kind, raw_data=rounded.tobytes())
