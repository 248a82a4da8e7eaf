import json

import numpy as np
import onnx
import pytest
import torch
from kneerisk_engines.errors import EngineError, ExportError
from kneerisk_engines.export import export_components
from kneerisk_engines.spec import ArraySpec, ComponentSpec
from kneerisk_engines.weights import locate_weights, read_weights, stored_form
from torch import nn


def test_one_copy_of_the_weights_in_all(exported) -> None:
    names = {p.name for p in exported.folder.iterdir()}
    assert names == {"weights.safetensors", "coder.onnx", "forecaster.onnx"}
    count = sum(t.numel() for m in exported.trained.values() for t in m.parameters())
    matrices = sum(t.numel() for m in exported.trained.values() for t in m.parameters() if t.ndim > 1)
    size = (exported.folder / "weights.safetensors").stat().st_size
    assert size < 2 * matrices + 4 * (count - matrices) + 4096  # float16, and a header
    for name in exported.specs:
        graph = onnx.load(exported.graph(name), load_external_data=False).graph
        assert sum(len(t.raw_data) for t in graph.initializer) < 2048
        onnx.checker.check_model(str(exported.graph(name)))


def test_every_weight_of_the_graph_lies_in_the_file_under_its_own_name(exported) -> None:
    places = locate_weights(exported.folder / "weights.safetensors")
    found = set()
    for name in exported.specs:
        for tensor in onnx.load(exported.graph(name), load_external_data=False).graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                key = f"{name}.{tensor.name.removesuffix('.f16')}"
                assert (int(entries["offset"]), int(entries["length"])) == (
                    places[key].offset,
                    places[key].length,
                )
                found.add(key)
    assert found == set(places)


def test_weights_are_the_modules_rounded_to_float16(exported) -> None:
    arrays, unused = read_weights(exported.folder / "weights.safetensors", "coder")
    state = exported.trained["coder"].state_dict()
    assert unused == {"usage", "norm.num_batches_tracked"}
    assert set(arrays) == set(state) - unused
    np.testing.assert_array_equal(arrays["stem.weight"], state["stem.weight"].half().float().numpy())
    np.testing.assert_array_equal(arrays["norm.running_var"], state["norm.running_var"].numpy())


def test_graphs_say_nothing_of_the_machine_that_exported(exported) -> None:
    for name in exported.specs:
        content = exported.graph(name).read_bytes()
        assert b".py" not in content
        assert str(exported.folder).encode() not in content


def test_exporting_again_gives_the_same_bytes(exported, tmp_path) -> None:
    export_components(tmp_path, {n: (exported.trained[n], exported.specs[n]) for n in exported.specs})
    for path in exported.folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


class _Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


class _Large(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.rand(2, 20000), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.table)[:, :2]


SPEC = ComponentSpec("small", (ArraySpec("x", (2,)),), (ArraySpec("y", (2,)),))


def test_a_parameter_that_is_never_read_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(ExportError, match=r"idle\.bias, idle\.weight"):
        export_components(tmp_path, {"small": (_Idle(), SPEC)})


def test_a_large_constant_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(ExportError, match=r"'table' of 160000 bytes"):
        export_components(tmp_path, {"small": (_Large(), SPEC)})


def test_a_module_that_is_not_its_spec_is_refused(tmp_path) -> None:
    with pytest.raises(EngineError, match="output 'y'"):
        export_components(tmp_path, {"small": (nn.Linear(2, 3), SPEC)})
    with pytest.raises(ExportError, match="spec of 'small'"):
        export_components(tmp_path, {"other": (nn.Linear(2, 2), SPEC)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [1e6, float("nan"), float("inf")])
def test_a_weight_that_float16_cannot_hold_is_refused_by_name(value: float) -> None:
    with pytest.raises(EngineError, match=r"'unet\.weight'"):
        stored_form("unet.weight", np.full((2, 2), value))


def test_the_weights_file_is_plain_safetensors(exported) -> None:
    with (exported.folder / "weights.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert header["coder.stem.weight"]["dtype"] == "F16"
    assert header["coder.stem.weight"]["shape"] == [8, 1, 3, 3]
