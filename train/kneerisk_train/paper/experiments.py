"""The paper's experiments, ablations and next checks (arXiv 2506.14560) on the cohort at hand.

Every variant shares the run's VQ-VAE and cached latents, trains what it changes, and is published as a stack
of its own; figures are those of the test split, or of val where there is no test split.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kneerisk.method.exposure import equalise
from kneerisk.method.grade import median_grade
from kneerisk.method.predict import Forecast, ForecastSettings
from kneerisk.method.risk import risk_of_rise
from kneerisk.method.views import upscaled
from kneerisk.stack.stack import Stack
from kneerisk_train.data.knees import Knees
from kneerisk_train.prepare.pairs import VisitPairs
from kneerisk_train.publish.figures import Interval, auc_interval, split_figures
from kneerisk_train.publish.forecast import open_networks, usual_forecast, views_of
from kneerisk_train.publish.publish import publish
from kneerisk_train.run.recipe import Recipe
from kneerisk_train.run.session import Session, keep_recipe
from kneerisk_train.stages.order import run

log = logging.getLogger(__name__)

_SHARED = (
    "vqvae.pt",
    "decoder.pt",
    "latents.npz",
    "surrogates.npz",
    "equations.json",
    "diffusion.pt",
    "classifier_now.pt",
    "classifier_12m.pt",
    "localiser.pt",
)
_MADE_BY = {
    "diffusion": ("diffusion.pt", "classifier_now.pt", "classifier_12m.pt"),
    "classifier": ("classifier_now.pt", "classifier_12m.pt"),
}


@dataclass(frozen=True)
class Variant:
    """One change of the recipe, and the stages that it concerns."""

    name: str
    meaning: str
    stages: tuple[str, ...]
    change: Callable[[Recipe], Recipe]


def _without_z0(recipe: Recipe) -> Recipe:
    unet = replace(recipe.diffusion.unet, conditioned=False)
    return replace(recipe, diffusion=replace(recipe.diffusion, unet=unet))


def _without_landmarks(recipe: Recipe) -> Recipe:
    return replace(recipe, classifier=replace(recipe.classifier, delta=0.0))


VARIANTS = (
    Variant("base", "as the recipe says", (), lambda recipe: recipe),
    Variant(
        "without-z0", "the U-Net does not see the current latent", ("diffusion", "classifier"), _without_z0
    ),
    Variant(
        "delta-0", "the stage-3 classifiers learn no landmarks (delta 0)", ("classifier",), _without_landmarks
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What a variant came to."""

    variant: Variant
    stack: Path
    figures: dict[str, object]
    forecast: Forecast


@dataclass(frozen=True)
class Upscaling:
    """Risk and forecast grade of one group of pairs, as the crop is and upscaled 2x."""

    group: str
    pairs: int
    mean_risk: tuple[float, float]
    """Raw; as it is, upscaled."""
    right: tuple[float, float]
    """Share of pairs whose grade at 12 months is forecast right."""


@dataclass(frozen=True)
class Findings:
    """All that the report tells."""

    split: str
    knees: Knees
    pairs: VisitPairs
    outcomes: tuple[Outcome, ...]
    upscaling: tuple[Upscaling, ...]
    """Empty where the split has no graded pairs."""
    pictures: npt.NDArray[np.float32]
    """[2, N, S, S]: first crops, equalised, and their reconstructions."""
    landmark_disagreement_px: float | None
    """Median distance of the network's landmarks to the marked ones, crop pixels."""


def run_suite(session: Session, report: Path, *, steps: int = 2) -> Findings:
    """Train, publish and measure every variant of a trained run, below ``report/variants``.

    Args:
        session: the run, its stages trained.
        report: a folder; a variant that was finished in it is not trained again.
        steps: sampler steps a future.
    """
    split = "test" if "test" in session.data.knees else "val"
    knees, pairs = session.data.knees[split], session.data.pairs[split]
    outcomes = []
    for variant in VARIANTS:
        stack = _published(session, variant, report / "variants" / variant.name, steps)
        forecast = usual_forecast(stack, knees)
        figures = split_figures(stack, forecast, knees, pairs)
        if variant.name == "base":
            upscaling = _upscaling(stack, session, split)
            pictures = _reconstructions(stack, knees)
        figures["forecast_auc"] = _forecast_auc(forecast, session, split)
        outcomes.append(Outcome(variant, stack.folder, figures, forecast))
    marked = knees.has_landmarks
    off = np.linalg.norm((outcomes[0].forecast.landmarks_now - knees.landmarks)[marked], axis=-1)
    return Findings(
        split,
        knees,
        pairs,
        tuple(outcomes),
        upscaling,
        pictures,
        float(np.median(off)) if marked.any() else None,
    )


def _published(session: Session, variant: Variant, folder: Path, steps: int) -> Stack:
    """A variant's stack: what it does not change is shared with the run, the rest is trained."""
    place = folder / "stack"
    if (place / "stack.yaml").is_file():
        log.info("%s: published before", variant.name)
        return Stack.load(place)
    recipe = variant.change(session.recipe)
    folder.mkdir(parents=True, exist_ok=True)
    own = {file for stage in variant.stages for file in _MADE_BY[stage]}
    for name in _SHARED:
        source = session.out / name
        if name not in own and source.exists() and not (folder / name).exists():
            _share(source, folder / name)
    changed = replace(session, recipe=recipe, out=folder)
    keep_recipe(recipe, folder)
    for stage in variant.stages:
        log.info("%s: %s", variant.name, stage)
        run(stage, changed)
    return publish(changed, place, name=variant.name, steps=steps, force=True)


def _share(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)


def _forecast_auc(forecast: Forecast, session: Session, split: str) -> Interval | None:
    """AUC of P(KL at 12 months above the reader's grade now) for the rises: the forecast on its own."""
    knees, pairs = session.data.knees[split], session.data.pairs[split]
    rising = knees.grade[pairs.current] < 4
    now, later = pairs.current[rising], pairs.future[rising]
    rose = knees.grade[later] > knees.grade[now]
    if rose.sum() < 15:
        return None
    grade = knees.grade[now]
    above = np.arange(5)[None] > grade[:, None]
    return auc_interval((forecast.p_12m[now].mean(axis=1) * above).sum(axis=1), rose, knees.participant[now])


def _upscaling(stack: Stack, session: Session, split: str) -> tuple[Upscaling, ...]:
    """The paper's test-time upscaling, as the scorer does it, by transition."""
    knees, pairs = session.data.knees[split], session.data.pairs[split]
    if not len(pairs.current):
        return ()
    now, later = knees.grade[pairs.current], knees.grade[pairs.future]
    groups = {
        "stable low": (now == later) & (now <= 1),
        "stable high": (now == later) & (now >= 3),
        "progressing": later > now,
    }
    crops = np.stack([equalise(crop.astype(np.uint16)) for crop in knees.pixels[pairs.current]])
    answers = []
    with open_networks(stack) as networks:
        for pixels in (crops, np.stack([upscaled(crop) for crop in crops])):
            said = networks.forecast(views_of(networks, pixels), ForecastSettings(stack.description.steps))
            p_12m = said.p_12m.mean(axis=1)
            answers.append((risk_of_rise(said.p_now, p_12m), median_grade(p_12m) == later))
    return tuple(
        Upscaling(
            group,
            int(members.sum()),
            (float(answers[0][0][members].mean()), float(answers[1][0][members].mean())),
            (float(answers[0][1][members].mean()), float(answers[1][1][members].mean())),
        )
        for group, members in groups.items()
        if members.any()
    )


def _reconstructions(stack: Stack, knees: Knees, shown: int = 6) -> npt.NDArray[np.float32]:
    """First graded crops, equalised, and their reconstructions, [2, N, S, S]."""
    with open_networks(stack) as networks:
        seen = views_of(networks, knees.graded().pixels[:shown])[:, 0]
        return np.stack([seen, networks.decode(networks.encode(seen)["latent"])])
