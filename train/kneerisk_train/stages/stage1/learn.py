"""Training stage 1: what a step sees, where the weights start, and what is told of val."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from kneerisk.errors import UsageError
from kneerisk_train.data.exposures import expose_twice
from kneerisk_train.data.knees import Knees
from kneerisk_train.run.loop import Batch, Stage, fit, seed_of, trained_weights
from kneerisk_train.run.session import Session
from kneerisk_train.stages.initial import load_initial
from kneerisk_train.stages.stage1.lessons import read_lessons
from kneerisk_train.stages.stage1.stay import stay_figures
from kneerisk_train.stages.vqvae import (
    NAME,
    AutoencoderWithHeads,
    Drawing,
    Seen,
    grade_figures,
    loss_terms,
    pictures,
    radiograph_batches,
)


def train(session: Session) -> AutoencoderWithHeads:
    """Train on the train split; returns the averaged weights."""
    recipe = session.recipe
    config = recipe.vqvae
    knees, val = session.data.knees["train"], session.data.knees["val"]
    if config.freeze_norms and session.initial is None:
        raise UsageError("vqvae.freeze_norms keeps a trained stack's norms: say which stack with --init")
    if config.start_share and session.initial is None:
        raise UsageError("vqvae.start_share keeps a share of a trained stack: say which stack with --init")
    torch.manual_seed(seed_of(recipe.seed, NAME))
    module = AutoencoderWithHeads(recipe)
    if session.initial is not None:
        parts: dict[str, nn.Module] = {"encoder": module.encoder, "classifier_now": module.classifier}
        if recipe.decoder is None:  # else a published decoder is that later stage's, of other sizes
            parts["decoder"] = module.decoder
        load_initial(session.initial, parts)
    elif recipe.teacher is not None:
        start_from_teacher(module, session)
    start = {name: value.clone() for name, value in module.state_dict().items()}
    count = config.optim.batch_size // 2
    shown = max(1, round(config.decoded * count))
    draw = Drawing(knees, count, config.landmark_share, recipe)
    taught = torch.zeros(len(knees), 5)
    if config.taught:
        taught = torch.from_numpy(read_lessons(session, knees))

    def batch(step: int, rng: np.random.Generator) -> Batch:
        chosen = draw(step, rng)
        radiographs, landmarks = expose_twice(knees, chosen, config.augment, rng)
        grade = torch.from_numpy(knees.grade[chosen])
        return radiographs, grade.repeat(2), landmarks, taught[chosen].repeat(2, 1)

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        seen: Seen = training(arrays[0], shown)
        return loss_terms(seen, arrays, recipe)

    stage = Stage(
        name=NAME,
        module=module,
        optim=config.optim,
        batch=batch,
        terms=terms,
        figures=lambda average: evaluate(average, val, session),
        pictures=lambda average: pictures(average, val, session),
        figures_every=config.figures_every,
        finish=partial(blend, start=start, share=config.start_share),
    )
    trained = fit(session, stage)
    assert isinstance(trained, AutoencoderWithHeads)
    return trained


@torch.no_grad()
def blend(module: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Move a module's weights so far towards those it started from, in place; counts stay as they are."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.lerp_(start[name].to(value.device), share)


def start_from_teacher(module: AutoencoderWithHeads, session: Session) -> None:
    """Encoder and classifier of the first teacher, in place; the codes start anew."""
    weights = trained_weights(session.out, "teacher1")
    for name, part in (("encoder", module.encoder), ("classifier", module.classifier)):
        part.load_state_dict(
            {
                key.removeprefix(f"{name}."): value
                for key, value in weights.items()
                if key.startswith(f"{name}.")
            }
        )


@torch.no_grad()
def evaluate(module: nn.Module, knees: Knees, session: Session) -> dict[str, float]:
    """Grades, landmark error (mm), reconstruction L1, and how still knees stay, of the averaged weights."""
    assert isinstance(module, AutoencoderWithHeads)
    module.eval()
    knees = knees.graded()
    grades, points, error = [], [], 0.0
    for radiographs in radiograph_batches(knees.pixels, session):
        with session.fabric.autocast():
            latent, _ = module.encoder(radiographs)
            probabilities, landmarks = module.classifier(latent)
            decoded = module.decoder(latent)
        error += float((decoded.float() - radiographs).abs().mean(dim=(1, 2, 3)).sum())
        grades.append(probabilities.float().cpu().numpy())
        points.append(landmarks.float().cpu().numpy())
    figures = grade_figures(np.concatenate(grades), np.concatenate(points), knees)
    stay = stay_figures(module.encoder, module.classifier, knees, session)
    return figures | stay | {"reconstruction_l1": round(error / len(knees), 4)}
