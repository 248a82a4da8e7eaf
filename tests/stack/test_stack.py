import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from kneerisk_engines.errors import ExportError
from kneerisk_engines.files import sha256_file
from kneerisk_engines.parity import compare
from kneerisk_engines.spec import ArraySpec, ComponentSpec

from kneerisk.compile.open import open_network
from kneerisk.errors import ExitCode, NoEngineError, StackError
from kneerisk.models import build
from kneerisk.stack.components import StackComponent
from kneerisk.stack.description import StackDescription
from kneerisk.stack.find import available_stacks
from kneerisk.stack.stack import Stack
from kneerisk.stack.write import revise_stack, write_stack

LATENT = ArraySpec("latent", (2, 8, 8))
UNET = {"latent_channels": 2, "channels": 8, "multipliers": [1, 2]}
DECODER = {"latent_channels": 2, "width": 16, "blocks": 1}


def describe(**changes) -> StackDescription:
    noisy, current = ArraySpec("noisy", (2, 8, 8)), ArraySpec("current", (2, 8, 8))
    unet = ComponentSpec("unet", (noisy, current, ArraySpec("time")), (ArraySpec("velocity", (2, 8, 8)),))
    decoder = ComponentSpec("decoder", (LATENT,), (ArraySpec("radiograph", (1, 64, 64)),))
    values = {
        "name": "tiny",
        "version": "0.1.0",
        "summary": "Untrained, for tests.",
        "crop_size": 64,
        "field_of_view_mm": 96.0,
        "latent_shape": (2, 8, 8),
        "steps": 4,
        "samples": 1,
        "micro_batch": 2,
        "grade_zooms": (1.0,),
        "components": {
            "unet": StackComponent(unet, "CC0-1.0", UNET),
            "decoder": StackComponent(decoder, "CC0-1.0", DECODER, float32_only=True),
        },
    }
    return StackDescription(**(values | changes))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Stack:
    torch.manual_seed(0)
    return write_stack(
        tmp_path_factory.mktemp("stacks") / "tiny",
        describe(),
        {"unet": build("unet", UNET), "decoder": build("decoder", DECODER)},
        calibration={"population": "none"},
        model_card="# Tiny\n",
    )


@pytest.fixture
def copied(made: Stack, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "roots" / "tiny"))


def test_what_was_written_is_what_is_read(made: Stack) -> None:
    assert made.description == describe()
    assert made.name == "tiny-0.1.0"
    assert made.description.mm_per_px == 1.5
    assert made.calibration() == {"population": "none"}
    assert made.model_card() == "# Tiny\n"
    assert Stack.load(made.folder) == made
    assert {p.name for p in made.folder.iterdir()} == {*made.files, "stack.yaml"}
    assert [p.name for p in made.folder.parent.iterdir()] == ["tiny"]  # nothing is left aside


def test_what_earlier_stacks_said_of_a_student_is_passed_over() -> None:
    earlier = describe().to_plain() | {"distilled_steps": 2, "usual_forecaster": "unet_distilled"}
    assert StackDescription.from_plain(earlier, "stack.yaml") == describe()
    with pytest.raises(ValueError, match="students"):
        StackDescription.from_plain(describe().to_plain() | {"students": 2}, "stack.yaml")


@pytest.mark.parametrize("component", ["unet", "decoder"])
def test_both_backends_open_the_stack_and_agree(made: Stack, component: str) -> None:
    rng = np.random.default_rng(0)
    inputs = made.component(component).spec.inputs
    arrays = {a.name: rng.random((3, *a.shape), dtype=np.float32) for a in inputs}
    with (
        open_network(made, component, "cpu", "fp32") as cpu,
        open_network(made, component, "torch", "fp32") as reference,
    ):
        parity = compare(reference, cpu, arrays)
    assert all(output.max_abs <= 1e-4 and not output.not_finite for output in parity.outputs.values())


def test_a_float32_component_stays_in_float32(made: Stack) -> None:
    with open_network(made, "decoder", "torch", "bf16") as runner:
        assert runner.precision == "fp32"
    with open_network(made, "unet", "torch", "bf16") as runner:
        assert runner.precision == "bf16"


def test_the_cpu_backend_runs_without_torch(made: Stack) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from kneerisk.compile.open import open_network\n"
        "from kneerisk.stack.stack import Stack\n"
        f"stack = Stack.load({str(made.folder)!r})\n"
        "with open_network(stack, 'decoder') as runner:\n"
        "    print(runner.run({'latent': np.zeros((2, 2, 8, 8), np.float32)})['radiograph'].shape)\n"
        "try:\n"
        "    open_network(stack, 'decoder', 'torch')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "(2, 1, 64, 64)" in run.stdout
    assert "NoEngineError" in run.stdout
    assert "kneerisk[train]" in run.stdout


@pytest.mark.parametrize("name", ["weights.safetensors", "unet.onnx", "calibration.json", "MODEL_CARD.md"])
def test_a_tampered_file_is_named(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(StackError, match=f"{name} is damaged or was changed.*fetch the stack again"):
        Stack.load(copied)


def test_a_missing_file_is_named(copied: Path) -> None:
    (copied / "decoder.onnx").unlink()
    with pytest.raises(StackError, match=r"decoder\.onnx is missing: fetch"):
        Stack.load(copied)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2; this version of kneerisk reads format 1"),
        ({"stepz": 3}, "unknown keys stepz"),
        ({"steps": 0}, "steps 0"),
        ({"steps": "many"}, "steps: 'many' is not a whole number"),
        ({"latent_shape": [2, 8]}, "latent_shape"),
        ({"components": {"unet": {}}}, r"components\['unet'\].terms: is missing"),
        ({"components": 3}, "not a valid stack"),
        ({"files": None}, "lists no files"),
        ({"files": {"MODEL_CARD.md": "0"}}, "does not list"),
    ],
)
def test_a_recipe_of_another_kind_is_refused(copied: Path, change: dict, says: str) -> None:
    path = copied / "stack.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(StackError, match=says):
        Stack.load(copied)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\x00"])
def test_a_recipe_that_is_no_mapping_is_refused(copied: Path, text: str) -> None:
    (copied / "stack.yaml").write_text(text, "utf-8")
    with pytest.raises(StackError, match=r"stack\.yaml"):
        Stack.load(copied)


def test_a_stack_lists_no_file_outside_its_folder(copied: Path) -> None:
    outside = copied.parent / "outside.txt"
    outside.write_text("secret", "utf-8")
    values = yaml.safe_load((copied / "stack.yaml").read_text("utf-8"))
    values["files"]["../outside.txt"] = sha256_file(outside)
    (copied / "stack.yaml").write_text(yaml.safe_dump(values), "utf-8")
    with pytest.raises(StackError, match="lie in its own folder"):
        Stack.load(copied)


def test_the_hash_covers_the_recipe_too(copied: Path, made: Stack) -> None:
    path = copied / "stack.yaml"
    path.write_text(path.read_text("utf-8").replace("steps: 4", "steps: 5"), "utf-8")
    changed = Stack.load(copied)
    assert changed.files == made.files
    assert changed.sha256 != made.sha256


def test_a_stack_is_found_by_name_and_the_first_root_wins(copied: Path, tmp_path: Path, monkeypatch) -> None:
    second = shutil.copytree(copied.parent, tmp_path / "second")
    monkeypatch.setenv("KNEERISK_STACKS", f"{copied.parent}{';' if sys.platform == 'win32' else ':'}{second}")
    assert available_stacks()["tiny"] == copied
    assert Stack.load("tiny").folder == copied


def test_an_unknown_stack_says_what_there_is(copied: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("KNEERISK_STACKS", str(copied.parent))
    with pytest.raises(StackError, match=r"no stack 'huge': the stacks here are tiny.*KNEERISK_STACKS"):
        Stack.load("huge")
    with pytest.raises(StackError, match=r"is no stack: it has no stack\.yaml"):
        Stack.load(tmp_path)


def test_an_unknown_component_or_backend_is_named(made: Stack) -> None:
    with pytest.raises(StackError, match="no component 'localiser'; it has unet, decoder"):
        open_network(made, "localiser")
    with pytest.raises(NoEngineError, match="needs an NVIDIA GPU") as caught:
        open_network(made, "unet", "tensorrt")
    assert caught.value.exit_code == ExitCode.NO_ENGINE


def test_a_revision_keeps_the_networks(copied: Path) -> None:
    before = Stack.load(copied)
    after = revise_stack(before, steps=9, calibration={"population": "a cohort"})
    assert (after.folder, after.description.steps) == (copied, 9)
    assert after.calibration() == {"population": "a cohort"}
    assert after.model_card() == before.model_card()
    changed = {name for name in before.files if after.files[name] != before.files[name]}
    assert changed == {"calibration.json"}
    assert after.sha256 != before.sha256


def test_writing_never_replaces_or_halves_a_stack(copied: Path) -> None:
    modules = {"unet": build("unet", UNET), "decoder": build("decoder", DECODER)}
    texts = {"calibration": {}, "model_card": ""}
    before = Stack.load(copied)
    with pytest.raises(StackError, match="exists: choose another folder"):
        write_stack(copied, describe(), modules, **texts)
    with pytest.raises(StackError, match="are not the described components"):
        write_stack(copied, describe(), {"unet": modules["unet"]}, overwrite=True, **texts)
    modules["decoder"].idle = torch.nn.Linear(2, 2)
    with pytest.raises(ExportError, match="idle"):
        write_stack(copied, describe(), modules, overwrite=True, **texts)
    assert Stack.load(copied) == before
    assert [p.name for p in copied.parent.iterdir()] == ["tiny"]


def test_a_calibration_with_nan_is_no_json(copied: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        revise_stack(Stack.load(copied), calibration={"slope": float("nan")})
    assert json.loads((copied / "calibration.json").read_text("utf-8")) == {"population": "none"}


def test_upscaling_is_refused_for_a_stack_that_was_not_trained_for_it() -> None:
    from kneerisk.errors import UsageError
    from kneerisk.scoring.cohort import _forecast_settings
    from kneerisk.scoring.settings import StackSettings

    with pytest.raises(UsageError, match="not trained on upscaled crops"):
        _forecast_settings(describe(), StackSettings(upscale=True))
    assert _forecast_settings(describe(upscales=True), StackSettings(upscale=True)).upscale
    assert not _forecast_settings(describe(), StackSettings()).upscale
