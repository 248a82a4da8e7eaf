"""From a prepared cohort to a published stack and the experiments, by the command line, at debug size."""

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from kneerisk_engines.weights import WEIGHTS_NAME, read_weights
from kneerisk_train.run import recipe as recipes
from typer.testing import CliRunner

from kneerisk.cli.app import app
from kneerisk.compile.open import open_network
from kneerisk.simulate.dicom import write_dicom
from kneerisk.simulate.radiograph import simulate_radiograph
from kneerisk.stack.stack import Stack

runner = CliRunner()


def run(*arguments: object) -> str:
    result = runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    run("train", "all", "--recipe", "debug", "--data", cohort, "--out", out)
    return out


@pytest.fixture(scope="module")
def published(cohort: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    stack = tmp_path_factory.mktemp("stacks") / "tiny"
    said = run(
        "train", "publish", "--data", cohort, "--out", trained, "--stack", stack, "--steps", 2, "--force"
    )
    assert f"kneerisk stack import {stack}" in said
    return stack


def test_every_stage_leaves_weights_losses_and_pictures(trained: Path) -> None:
    for name in ("teacher1", "teacher2", "vqvae", "decoder", "diffusion", "classifier_now", "classifier_12m"):
        assert (trained / f"{name}.pt").is_file()
        assert len((trained / f"{name}.csv").read_text().splitlines()) in (7, 13)
    assert list((trained / "pictures" / "vqvae").glob("reconstructions-*.png"))
    assert list((trained / "pictures" / "diffusion").glob("forecasts-*.png"))
    assert (trained / "pictures" / "classifier_now" / "loss.png").is_file()
    assert list((trained / "logs" / "vqvae").iterdir())


def test_the_stack_says_what_it_was_trained_on(published: Path) -> None:
    stack = Stack.load(published)
    training = yaml.safe_load((published / "training.yaml").read_text())
    assert training["recipe"]["name"] == "debug"
    assert training["futures"].startswith("real second visits: the training split's")
    assert training["pairs"]["train"]["rises"] > 20
    assert len(training["splits_sha256"]) == 64
    card = stack.model_card()
    assert training["splits_sha256"] in card
    assert "no medical device" in card
    assert "| KL accuracy | " in card
    assert "prepared: its train and val participants, " in stack.calibration()["population"]


def test_a_stack_without_a_localiser_of_its_own_says_whose_it_has(published: Path) -> None:
    shipped, training = Stack.load("compact"), yaml.safe_load((published / "training.yaml").read_text())
    theirs = yaml.safe_load((shipped.folder / "training.yaml").read_text())["localiser"]
    assert training["localiser"] == {"stack": shipped.name} | theirs
    card = Stack.load(published).model_card()
    assert f"The localiser is that of {training['localiser']['stack']}, as it is." in card
    assert 'It learnt by the recipe "localiser"' in card


def test_radiographs_are_scored_with_it(published: Path, tmp_path: Path) -> None:
    shown = simulate_radiograph(3, spacing_mm=0.6)
    write_dicom(shown, tmp_path / "images" / "P1" / "film.dcm", participant_id="P1")
    out = tmp_path / "risks.parquet"
    run("score", tmp_path / "images", "--stack", published, "--out", out, "--no-progress")
    table = pl.read_parquet(out)
    assert table["status"].to_list() == ["ok", "ok"]
    assert set(table["stack"]) == {"tiny-0.1.0"}
    # The networks see 96 pixels of a crop of 224; landmarks come back in pixels of the film.
    height, width = shown.pixels.shape
    assert table["lm_now_T4_x"].is_between(0, width).all()
    assert table["lm_now_T4_y"].is_between(0, height).all()


def test_a_published_stack_is_imported_and_found_by_name(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNEERISK_STACKS", str(tmp_path))
    run("stack", "import", published, "--name", "mine")
    assert Stack.load("mine").sha256 == Stack.load(published).sha256
    again = runner.invoke(app, ["stack", "import", str(published), "--name", "mine"])
    assert again.exit_code != 0
    run("stack", "import", published, "--name", "mine", "--overwrite")


def test_training_goes_on_from_a_published_stack(cohort: Path, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    for stage in ("teacher", "vqvae"):
        run("train", stage, "--recipe", "debug", "--data", cohort, "--out", out, "--init", published)
    other = runner.invoke(
        app,
        [
            "train",
            "vqvae",
            "--recipe",
            "debug",
            "--data",
            str(cohort),
            "--out",
            str(tmp_path / "no"),
            "--init",
            "compact",
        ],
    )
    assert "its encoder does not fit the recipe" in str(other.exception)


def test_a_published_stack_is_gone_on_with(cohort: Path, published: Path, tmp_path: Path) -> None:
    """Stage 1 learns on, a share of the stack stays in it, and what is not trained further is stage 1's."""
    recipe, out = tmp_path / "onward.yaml", tmp_path / "onward"
    keys = yaml.safe_load((Path(recipes.__file__).parents[1] / "recipes" / "debug.yaml").read_text())
    del keys["teacher"]
    keys["vqvae"] |= {"start_share": 0.5, "freeze_norms": True}
    keys["classifier"]["optim"]["steps"] = 0
    recipe.write_text(yaml.safe_dump(keys | {"name": "onward"}))
    arguments = ("--recipe", recipe, "--data", cohort, "--out", out, "--init", published)
    run("train", "all", *arguments)
    first, now = (torch.load(out / f"{name}.pt", weights_only=True) for name in ("vqvae", "classifier_now"))
    begun, _ = read_weights(published / WEIGHTS_NAME, "classifier_now")
    for name in ("stem.0.weight", "grade.1.weight"):
        assert torch.equal(now[name], first[f"classifier.{name}"])
        assert not torch.equal(now[name], torch.from_numpy(begun[name]))
    written = (out / "vqvae.pt").stat().st_mtime_ns
    run("train", "vqvae", *arguments)
    assert (out / "vqvae.pt").stat().st_mtime_ns == written
    stack = tmp_path / "stack"
    run("train", "publish", "--data", cohort, "--out", out, "--stack", stack, "--steps", 2, "--force")
    card = " ".join(Stack.load(stack).model_card().split())
    assert "It started from the stack tiny-0.1.0. A stage of 0 steps" in card
    assert "of what it started from, which counts 50%." in card


def test_the_experiments_report_what_the_data_allow(cohort: Path, trained: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    # The recipe debug has no localiser; what a run has trained of one goes into each variant all the same.
    (trained / "localiser.pt").write_bytes(b"of this run")
    run("train", "experiments", "--data", cohort, "--out", trained, "--report", report, "--steps", 2)
    text = (report / "report.md").read_text()
    for heading in (
        "with and without the current latent",
        "delta 0.5",
        "upscaling, by transition",
        "Landmark labels",
    ):
        assert heading in text
    page = (report / "report.html").read_text()
    assert "<table>" in page
    pictures = re.findall(r'<img [^>]*src="([^"]{0,30})', page)
    assert len(pictures) >= 3 and all(source.startswith("data:image/png;base64,") for source in pictures)
    assert 'alt="Loss of the stage vqvae, step by step"' in page
    assert (report / "reconstructions.png").stat().st_size > 1000
    assert (report / "variants" / "base" / "localiser.pt").is_file()
    noisy, time = np.ones((1, 8, 12, 12), np.float32), np.full(1, 0.5, np.float32)
    for variant, sees in (("base", True), ("without-z0", False)):
        stack = Stack.load(report / "variants" / variant / "stack")
        assert stack.component("unet").config["conditioned"] is sees
        with open_network(stack, "unet") as unet:
            said = [unet.run({"noisy": noisy, "current": noisy * z0, "time": time}) for z0 in (0, 1)]
        assert np.array_equal(said[0]["velocity"], said[1]["velocity"]) is not sees


def test_a_stage_before_its_turn_is_named(cohort: Path, tmp_path: Path) -> None:
    result = runner.invoke(
        app,
        ["train", "diffusion", "--recipe", "debug", "--data", str(cohort), "--out", str(tmp_path / "run")],
    )
    assert "train the stage vqvae first" in str(result.exception)


def test_what_a_recipe_will_cost_is_told_before(tmp_path: Path) -> None:
    said = run(
        "train", "all", "--recipe", "reference", "--data", tmp_path, "--out", tmp_path / "x", "--dry-run"
    )
    assert "latents 8 x 32 x 32" in said
    assert "35.81 M parameters" in " ".join(said.split())
    assert not (tmp_path / "x").exists()


def test_a_stack_is_not_replaced_unasked(
    cohort: Path, trained: Path, published: Path, tmp_path: Path
) -> None:
    place = tmp_path / "stack"
    shutil.copytree(published, place)
    result = runner.invoke(
        app, ["train", "publish", "--data", str(cohort), "--out", str(trained), "--stack", str(place)]
    )
    assert "add --overwrite" in str(result.exception)
    assert Stack.load(place).sha256 == Stack.load(published).sha256


def test_a_localiser_of_ones_own_leaves_the_rest_of_a_stack_alone(
    cohort: Path, published: Path, tmp_path: Path
) -> None:
    out, recipe, renewed = tmp_path / "out", tmp_path / "films.yaml", tmp_path / "renewed"
    shipped = Path(recipes.__file__).parents[1] / "recipes"
    values, ours = (yaml.safe_load((shipped / f"{name}.yaml").read_text()) for name in ("debug", "localiser"))
    values["localiser"] = ours["localiser"] | {
        "films": 4,
        "mixture": {"both": 0, "single": 0, "crop": 1, "none": 0, "simulated": 0},
        "optim": {"steps": 2, "batch_size": 2},
    }
    recipe.write_text(yaml.safe_dump(values))
    run("train", "localiser", "--recipe", recipe, "--data", cohort, "--out", out, "--init", published)
    asked = ("train", "publish", "--data", cohort, "--out", out, "--stack", renewed, "--renew", published)
    run(*asked, "--version", "0.2.0")

    old, new = Stack.load(published), Stack.load(renewed)
    assert new.name == "renewed-0.2.0"
    assert new.model_card().startswith('# Model card: the stack "renewed" 0.2.0')
    assert new.model_card().count("## The localiser") == 1 and "as it is" not in new.model_card()
    assert new.calibration() == old.calibration() and new.outcomes() == old.outcomes()
    assert {file for file in old.files if old.files[file] != new.files[file]} == {
        *("weights.safetensors", "MODEL_CARD.md", "training.yaml")
    }
    for component in old.description.components:
        before, after = (read_weights(stack.folder / WEIGHTS_NAME, component)[0] for stack in (old, new))
        same = all(np.array_equal(before[name], after[name]) for name in before)
        assert same == (component != "localiser")
    learnt = torch.load(out / "localiser.pt", weights_only=True)
    np.testing.assert_allclose(after["maps.weight"], learnt["maps.weight"].numpy(), atol=1e-3)
    record = yaml.safe_load((renewed / "training.yaml").read_text())
    assert record["localiser"]["started_from"]["stack"] == old.name and record["recipe"]["name"] == "debug"

    refused = runner.invoke(app, [*map(str, asked), "--overwrite", "--steps", "2"])
    assert "leave out --steps" in str(refused.exception)
