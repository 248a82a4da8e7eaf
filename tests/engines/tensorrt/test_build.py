"""Real builds by TensorRT-RTX, on a machine with or without a GPU."""

from pathlib import Path

import pytest
from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.spec import ArraySpec, ComponentSpec
from kneerisk_engines.tensorrt.build import BuildSettings, build_engine
from kneerisk_engines.tensorrt.typed_graph import typed_graph

from kneerisk.stack.stack import Stack

STACK = Stack.load("compact")
CHIPS = ("sm120", "sm80", "sm89")


def build(component: str, precision: str, targets: tuple[str, ...] = CHIPS, **settings: int) -> bytes:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX builds engines without a GPU")
    model = typed_graph(STACK.folder / f"{component}.onnx", precision).SerializeToString()  # type: ignore[arg-type]
    spec = STACK.component(component).spec
    return build_engine(model, spec, BuildSettings("tensorrt-rtx", targets=targets, **settings)).plan


@pytest.mark.parametrize("component", sorted(STACK.description.components))
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_component_of_the_compact_stack_builds_for_three_chips(component: str, precision: str) -> None:
    assert len(build(component, precision)) > 100_000


def test_the_reference_u_net_builds_for_three_chips(tmp_path: Path) -> None:
    from kneerisk_engines.export import export_components
    from kneerisk_train.run.recipe import load_recipe

    from kneerisk.models.unet import UNet

    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX builds engines without a GPU")
    latent = (8, 32, 32)
    spec = ComponentSpec(
        "unet",
        (ArraySpec("noisy", latent), ArraySpec("current", latent), ArraySpec("time")),
        (ArraySpec("velocity", latent),),
    )
    export_components(tmp_path, {"unet": (UNet(load_recipe("reference").diffusion.unet), spec)})
    model = typed_graph(tmp_path / "unet.onnx", "fp16").SerializeToString()
    plan = build_engine(model, spec, BuildSettings("tensorrt-rtx", targets=CHIPS)).plan
    # Half of two bytes a parameter at the least: untrained zeros pack well.
    assert len(plan) > 36_000_000


def test_the_progress_and_the_builders_words_are_kept() -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX builds engines without a GPU")
    model = typed_graph(STACK.folder / "decoder.onnx", "fp16").SerializeToString()
    told: list[tuple[str, float]] = []
    settings = BuildSettings("tensorrt-rtx", targets=("sm89",), min_batch=2, opt_batch=2, max_batch=4)
    built = build_engine(
        model, STACK.component("decoder").spec, settings, progress=lambda *step: told.append(step)
    )
    assert told
    assert all(0 <= share <= 1 for _, share in told)
    assert "INFO" in built.log
    assert built.timing_cache is None


def test_a_graph_that_is_none_is_refused_in_the_parsers_words() -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX builds engines without a GPU")
    with pytest.raises(EngineError, match="unet: tensorrt-rtx cannot read the graph"):
        build_engine(b"no graph", STACK.component("unet").spec, BuildSettings("tensorrt-rtx"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_batch": 4, "opt_batch": 2}, "1 ≤ min ≤ opt ≤ max"),
        ({"min_batch": 0}, "1 ≤ min ≤ opt ≤ max"),
        ({"flavour": "tensorrt", "targets": ("sm80",)}, "take --flavour tensorrt-rtx"),
        ({"targets": ("sm90",)}, "cannot be told to build for sm90"),
        ({"targets": ("sm55",)}, "unknown chip 'sm55'"),
        ({"hardware_compatibility": "same-cc"}, "no hardware compatibility level"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        BuildSettings(**{"flavour": "tensorrt-rtx", **settings})  # type: ignore[arg-type]


def test_a_flavour_that_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'kneerisk\[gpu\]'"):
        build_engine(b"", STACK.component("unet").spec, BuildSettings("tensorrt"))
