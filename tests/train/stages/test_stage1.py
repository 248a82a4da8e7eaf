"""What stage 1 is asked for: each term of its loss counts, by its weight, and training brings it down."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kneerisk_train.data.augment import AugmentConfig
from kneerisk_train.run.recipe import Recipe, load_recipe
from kneerisk_train.run.session import Session
from kneerisk_train.stages import vqvae
from kneerisk_train.stages.order import open_session, run
from kneerisk_train.stages.stage1 import decoder, learn, lessons, teacher
from kneerisk_train.stages.stage1.stay import stay_figures

from kneerisk.errors import UsageError
from kneerisk.models.trunk import InvertedResidual, norms_are_frozen, run_frozen
from kneerisk.models.vqvae import Decoder, DecoderConfig

WEIGHTS = {
    "reconstruction": "reconstruction_weight",
    "commitment": "beta",
    "grade": "grade_weight",
    "landmarks": "landmark_weight",
    "steadiness": "steadiness_weight",
    "stillness": "stillness_weight",
}
NONE = dict.fromkeys(WEIGHTS.values(), 0.0)


def weighed(**changes: object) -> Recipe:
    """The debug recipe for crops of 64 pixels, with other keys of its vqvae and nobody to teach it."""
    recipe = load_recipe("debug")
    shape = replace(recipe.classifier.classifier, crop_size=64)
    return replace(
        recipe,
        crop_size=64,
        teacher=None,
        decoder=None,
        classifier=replace(recipe.classifier, classifier=shape),
        vqvae=replace(recipe.vqvae, **({"taught": 0.0} | changes)),
    )


def batch(seed: int = 0, knees: int = 3) -> tuple[torch.Tensor, ...]:
    """Radiographs [2B, 1, 64, 64] whose second half is noisier, grades, landmarks, lessons."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.rand(knees, 1, 64, 64, generator=generator)
    anew = own + 0.3 * torch.randn(own.shape, generator=generator)
    grade = torch.arange(knees) % 5
    marks = 64 * torch.rand(knees, 16, 2, generator=generator)
    return (torch.cat([own, anew]), grade.repeat(2), marks.repeat(2, 1, 1), torch.eye(5)[grade.repeat(2)])


def losses(recipe: Recipe, steps: int, rate: float = 3e-3) -> tuple[vqvae.AutoencoderWithHeads, list]:
    """Stage 1 from nothing on one batch; its terms at every step."""
    torch.manual_seed(0)
    module = vqvae.AutoencoderWithHeads(recipe).train()
    optimiser = torch.optim.Adam(module.parameters(), rate)
    arrays, told = batch(), []
    for _ in range(steps):
        terms = vqvae.loss_terms(module(arrays[0], 2), arrays, recipe)
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        told.append({name: float(term.detach()) for name, term in terms.items()})
    return module, told


def test_every_term_counts_by_its_weight() -> None:
    once = losses(weighed(**dict.fromkeys(WEIGHTS.values(), 1.0)), 1)[1][0]
    for term, key in WEIGHTS.items():
        assert once[term] > 0, term
        alone = losses(weighed(**(NONE | {key: 2.0})), 1)[1][0]
        assert alone[term] == pytest.approx(2 * once[term], rel=1e-4), term
        assert all(alone[other] == 0 for other in WEIGHTS if other != term), term


@pytest.mark.parametrize("term", WEIGHTS)
def test_a_term_alone_is_brought_down(term: str) -> None:
    told = [terms[term] for terms in losses(weighed(**(NONE | {WEIGHTS[term]: 1.0})), 8)[1]]
    assert np.mean(told[-2:]) < 0.95 * told[0]


def test_the_readers_grades_give_way_to_the_lesson() -> None:
    """With the whole target taught, and a lesson that says KL 4 of every knee, KL 4 is what is asked for."""
    recipe = weighed(**(NONE | {"grade_weight": 1.0, "taught": 1.0}))
    radiographs, grade, marks, lesson = batch()
    seen = vqvae.AutoencoderWithHeads(recipe)(radiographs, 2)
    said = torch.eye(5)[torch.full_like(grade, 4)]
    four = seen._replace(logits=said * 30)
    right = vqvae.loss_terms(four, (radiographs, grade, marks, said), recipe)["grade"]
    wrong = vqvae.loss_terms(four, (radiographs, grade, marks, lesson), recipe)["grade"]
    assert right == pytest.approx(0, abs=1e-4)
    assert wrong > 10


def test_the_new_exposure_is_asked_for_the_knees_own_radiograph() -> None:
    recipe = weighed(**(NONE | {"reconstruction_weight": 1.0}))
    arrays = batch()
    seen = vqvae.AutoencoderWithHeads(recipe)(arrays[0], 2)
    own, anew = arrays[0][:2], arrays[0][3:5]
    assert vqvae.loss_terms(seen._replace(decoded=own), arrays, recipe)["reconstruction"] == 0
    assert vqvae.loss_terms(seen._replace(decoded=anew), arrays, recipe)["reconstruction"] > 0.1


def test_pictures_are_drawn_from_the_new_exposures() -> None:
    module = vqvae.AutoencoderWithHeads(weighed()).eval()
    # Untrained, the bias alone would choose every code.
    torch.nn.init.zeros_(module.encoder.project.bias)
    radiographs = batch()[0]
    with torch.no_grad():
        assert not torch.allclose(*(module.encoder(part)[0] for part in (radiographs[:2], radiographs[3:5])))
        decoded = module(radiographs, 2).decoded
        torch.testing.assert_close(decoded, module.decoder(module.encoder(radiographs[3:5])[0]))


def opened(cohort: Path, out: Path, recipe: Recipe) -> Session:
    """The debug recipe's session, going by another recipe."""
    return replace(open_session(cohort, out, "debug", precision="fp32"), recipe=recipe)


def test_frozen_norms_and_lessons_say_what_they_want(cohort: Path, tmp_path: Path) -> None:
    recipe = replace(load_recipe("debug"), teacher=None)
    session = opened(cohort, tmp_path, replace(recipe, vqvae=replace(recipe.vqvae, freeze_norms=True)))
    with pytest.raises(UsageError, match="freeze_norms"):
        learn.train(session)
    with pytest.raises(UsageError, match="needs a teacher"):
        learn.train(replace(session, recipe=recipe))


def test_a_share_of_where_it_started_stays_in_the_finished_weights(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(load_recipe("debug"), teacher=None)
    optim = replace(recipe.vqvae.optim, steps=2, learning_rate=0.01)
    config = replace(recipe.vqvae, taught=0.0, start_share=0.25, optim=optim)
    session = opened(cohort, tmp_path, replace(recipe, vqvae=config))
    with pytest.raises(UsageError, match="start_share"):
        learn.train(session)
    begun = {}

    def load_initial(stack: object, modules: dict[str, torch.nn.Module]) -> None:
        begun.update({f"encoder.{k}": v.clone() for k, v in modules["encoder"].state_dict().items()})

    monkeypatch.setattr(learn, "load_initial", load_initial)
    session = replace(session, initial=SimpleNamespace(name="one-1.0"))
    unshared = replace(session.recipe, vqvae=replace(config, start_share=0.0))
    without = learn.train(replace(session, recipe=unshared, out=tmp_path / "without")).state_dict()
    for lost in (False, False, True):  # trained; found trained; killed before the file was written
        if lost:
            (tmp_path / "vqvae.pt").unlink()
        trained = learn.train(session).state_dict()
        learnt = torch.load(tmp_path / "vqvae.checkpoint.pt", weights_only=True)["average"]
        written = torch.load(tmp_path / "vqvae.pt", weights_only=True)
        weight = "encoder.project.weight"
        torch.testing.assert_close(learnt[weight], without[weight])
        assert not torch.allclose(learnt[weight], begun[weight], atol=1e-4)
        torch.testing.assert_close(written[weight], 0.75 * learnt[weight] + 0.25 * begun[weight])
        torch.testing.assert_close(trained[weight], written[weight])


def test_stage_1_is_taught_the_average_and_starts_from_the_first_teacher(
    cohort: Path, tmp_path: Path
) -> None:
    recipe = load_recipe("debug")
    session = opened(cohort, tmp_path, recipe)
    knees = session.data.knees["train"].take(np.arange(4))
    read = []
    for name, see in zip(teacher.names(recipe), ("latent", "features"), strict=True):
        torch.manual_seed(len(read))
        network = teacher.Teacher(recipe, see)
        torch.save(network.state_dict(), session.out / f"{name}.pt")
        read.append(teacher.read(network, knees, session)[0])
    assert not np.allclose(read[0], read[1], atol=1e-4)
    np.testing.assert_allclose(lessons.read_lessons(session, knees), (read[0] + read[1]) / 2, atol=1e-5)
    module = vqvae.AutoencoderWithHeads(recipe)
    learn.start_from_teacher(module, session)
    first = torch.load(session.out / "teacher1.pt", weights_only=True)
    torch.testing.assert_close(module.encoder.project.weight, first["encoder.project.weight"])
    torch.testing.assert_close(module.classifier.grade[1].bias, first["classifier.grade.1.bias"])


def test_a_frozen_norm_folds_into_its_convolution_and_only_there() -> None:
    torch.manual_seed(0)
    block = InvertedResidual(8, 8, 6, 5, 1)
    for layer in block.layers:
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 2)
            torch.nn.init.normal_(layer.bias)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    features = torch.randn(2, 8, 12, 12)
    assert not norms_are_frozen(block.layers)
    block.eval()
    assert not norms_are_frozen(block.layers)  # its scales may still learn
    for layer in block.layers:
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.requires_grad_(False)
    assert norms_are_frozen(block.layers)
    with torch.no_grad():
        assert not norms_are_frozen(block.layers)
        expected = block(features)
    torch.testing.assert_close(features + run_frozen(block.layers, features), expected, atol=1e-5, rtol=1e-4)
    block(features).sum().backward()
    assert block.layers[0].weight.grad.abs().sum() > 0


def test_a_knee_stays_where_nothing_changes_and_moves_where_something_does(
    cohort: Path, tmp_path: Path
) -> None:
    session = opened(cohort, tmp_path, load_recipe("debug"))
    module = vqvae.AutoencoderWithHeads(session.recipe).eval()
    # Untrained, the bias alone would choose every code, and every knee would have one grade.
    torch.nn.init.zeros_(module.encoder.project.bias)
    torch.nn.init.normal_(module.classifier.grade[1].weight, std=1000.0)
    knees = session.data.knees["val"].take(np.arange(5))
    nothing = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0)
    still = stay_figures(module.encoder, module.classifier, knees, session, nothing)
    assert still == {"stay_grade_sd": 0, "stay_latent": 0}
    moved = stay_figures(module.encoder, module.classifier, knees, session, replace(nothing, noise=0.3))
    assert moved["stay_latent"] > 0.01
    assert moved["stay_grade_sd"] > 0.01


def test_a_grown_decoder_draws_what_it_drew_before_it_learns() -> None:
    torch.manual_seed(0)
    small = Decoder(DecoderConfig(latent_channels=8, width=16, blocks=1, fine_blocks=1))
    large = Decoder(DecoderConfig(latent_channels=8, width=16, blocks=3, fine_blocks=2))
    latent = torch.randn(2, 8, 12, 12)
    assert not torch.allclose(small(latent), large(latent), atol=1e-2)
    decoder.grow(small, large)
    torch.testing.assert_close(large(latent), small(latent))
    with pytest.raises(ValueError, match="width"):
        decoder.grow(small, Decoder(DecoderConfig(latent_channels=8, width=32)))


def test_the_decoder_learns_to_draw_and_nothing_else_learns() -> None:
    torch.manual_seed(0)
    recipe = weighed()
    autoencoder = vqvae.AutoencoderWithHeads(recipe).eval()
    before = {name: value.clone() for name, value in autoencoder.encoder.state_dict().items()}
    module = decoder.DecoderWithEyes(autoencoder.decoder, autoencoder.encoder).train()
    assert {name.split(".")[0] for name in module.state_dict()} == {"decoder"}
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    radiographs, told = batch()[0][:3], []
    for _ in range(10):
        unlike = module(radiographs)[1]
        optimiser.zero_grad()
        unlike.backward()
        optimiser.step()
        told.append(float(unlike.detach()))
    assert 0 < told[-1] < 0.9 * told[0]
    assert all(torch.equal(value, before[name]) for name, value in autoencoder.encoder.state_dict().items())


def test_what_looks_the_same_to_the_trunk_is_no_loss() -> None:
    recipe = weighed()
    autoencoder = vqvae.AutoencoderWithHeads(recipe).eval()
    module = decoder.DecoderWithEyes(autoencoder.decoder, autoencoder.encoder)
    radiographs = batch()[0][:2]
    module.decoder.forward = lambda latent: radiographs
    assert module(radiographs)[1] < 1e-5
    module.decoder.forward = lambda latent: radiographs + 0.1
    assert module(radiographs)[1] > 0.01


def test_a_stage_that_the_recipe_lacks_is_refused(cohort: Path, tmp_path: Path) -> None:
    session = opened(cohort, tmp_path, replace(load_recipe("debug"), decoder=None))
    with pytest.raises(UsageError, match="no stage decoder"):
        run("decoder", session)
