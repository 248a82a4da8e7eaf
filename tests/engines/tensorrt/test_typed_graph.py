"""A precision stated in a graph's own types: what changes, what must not, and what the numbers say."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.openvino_backend import import_openvino
from kneerisk_engines.tensorrt.typed_graph import typed_graph

STACK = Path(__file__).parents[3] / "kneerisk" / "stacks" / "compact"


def run(model: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By OpenVINO, in the types that the graph has."""
    ov = import_openvino()

    core = ov.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    results = compiled(arrays)
    return {port.get_any_name(): np.array(results[port]) for port in compiled.outputs}


def low_operations(model: onnx.ModelProto) -> dict[str, str]:
    """Name of each node that computes in low precision → its operation."""
    low = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {
        node.name: node.op_type
        for node in model.graph.node
        if node.op_type != "Cast" and any(types.get(name) in low for name in (*node.input, *node.output))
    }


@pytest.fixture(scope="module")
def latents() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 8, 28, 28), np.float32)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_classifier_answers_alike_and_keeps_its_softmax_in_float32(
    precision: str, latents: np.ndarray
) -> None:
    path = STACK / "classifier_now.onnx"
    full, low = typed_graph(path, "fp32"), typed_graph(path, precision)
    assert len(low.SerializeToString()) < 0.65 * len(full.SerializeToString())
    operations = set(low_operations(low).values())
    assert "Conv" in operations
    assert not operations & {"Softmax", "ReduceSum", "ReduceMean", "Exp", "Div", "InstanceNormalization"}
    assert low_operations(full) == {}
    expected, found = (run(model, {"latent": latents}) for model in (full, low))
    assert found["kl"].dtype == np.float32
    # float16 keeps 11 bits of a number, bfloat16 8.
    assert 0 < np.abs(expected["kl"] - found["kl"]).max() < {"fp16": 0.005, "bf16": 0.05}[precision]


def test_what_leads_to_a_choice_of_code_stays_float32() -> None:
    low = typed_graph(STACK / "encoder.onnx", "fp16")
    names = low_operations(low)
    inferred = onnx.shape_inference.infer_shapes(low).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    choices = [node for node in low.graph.node if node.op_type in ("ArgMin", "ArgMax")]
    assert choices
    for node in choices:
        assert node.name not in names
        assert types[node.input[0]] == onnx.TensorProto.FLOAT


def test_inputs_and_outputs_keep_their_types() -> None:
    for component in ("unet", "decoder", "localiser"):
        full, low = (typed_graph(STACK / f"{component}.onnx", p) for p in ("fp32", "fp16"))
        for kind in ("input", "output"):
            assert list(getattr(full.graph, kind)) == list(getattr(low.graph, kind))


def test_the_same_files_give_the_same_bytes() -> None:
    first, second = (typed_graph(STACK / "unet.onnx", "fp16") for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_other_precisions_and_broken_graphs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="builds fp32, fp16 and bf16"):
        typed_graph(STACK / "unet.onnx", "int8")  # type: ignore[arg-type]
    (tmp_path / "unet.onnx").write_bytes(b"no graph at all")
    with pytest.raises(EngineError, match="cannot be read"):
        typed_graph(tmp_path / "unet.onnx", "fp16")
    with pytest.raises(EngineError, match="cannot be read"):
        typed_graph(tmp_path / "missing.onnx", "fp16")
