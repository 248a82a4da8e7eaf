"""Checkpoints become a stack, with temperatures, novelty statistics and a calibration fitted beside them."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml
from kneerisk_engines.spec import ArraySpec, ComponentSpec
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from kneerisk import __version__
from kneerisk.errors import UsageError
from kneerisk.method.calibration import fit, rise_rates
from kneerisk.method.exposure import equalise
from kneerisk.models import build
from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder
from kneerisk.radiograph.locate.crop import FIELD_MM
from kneerisk.stack.stack import Stack, StackComponent, StackDescription, available_stacks
from kneerisk.stack.write import revise_stack, write_stack
from kneerisk_train.data.coding import made_batches
from kneerisk_train.data.futures import uses_visits
from kneerisk_train.data.knees import Knees
from kneerisk_train.publish.figures import measure, split_forecast, within_grade_auc
from kneerisk_train.publish.forecast import Networks
from kneerisk_train.publish.model_card import model_card
from kneerisk_train.run.loop import dataclass_values, trained_weights
from kneerisk_train.run.session import Session
from kneerisk_train.stages.classifier import LATER, NOW, encode_knees
from kneerisk_train.stages.diffusion import NAME as DIFFUSION
from kneerisk_train.stages.initial import load_initial
from kneerisk_train.stages.localiser import NAME as LOCALISER
from kneerisk_train.stages.vqvae import load_autoencoder

log = logging.getLogger(__name__)

_MICRO_BATCH = 8
_AUC_BOUNDS = (0.52, 0.95)
"""Discriminations that a slope is set by, whatever few knees say."""


def specs(latent: tuple[int, int, int]) -> dict[str, ComponentSpec]:
    """The named arrays of every component but the localiser, for latents (C, h, w)."""
    picture = (1, 8 * latent[1], 8 * latent[2])
    classifier_outputs = (ArraySpec("kl", (5,)), ArraySpec("landmarks", (16, 2)))
    shapes = {
        "encoder": ((ArraySpec("radiograph", picture),), (ArraySpec("latent", latent), ArraySpec("novelty"))),
        "unet": (
            (ArraySpec("noisy", latent), ArraySpec("current", latent), ArraySpec("time")),
            (ArraySpec("velocity", latent),),
        ),
        "classifier_now": ((ArraySpec("latent", latent),), classifier_outputs),
        "classifier_12m": ((ArraySpec("latent", latent),), classifier_outputs),
        "decoder": ((ArraySpec("latent", latent),), (ArraySpec("radiograph", picture),)),
    }
    return {name: ComponentSpec(name, inputs, outputs) for name, (inputs, outputs) in shapes.items()}


def localiser_spec(size: int) -> ComponentSpec:
    """The localiser's named arrays, for films of ``size`` pixels a side."""
    cells = size // 4
    return ComponentSpec(
        "localiser",
        (ArraySpec("radiograph", (1, size, size)),),
        (
            ArraySpec("centres", (2, cells, cells)),
            ArraySpec("width", (1, cells, cells)),
            ArraySpec("implant", (1, cells, cells)),
            ArraySpec("inverted"),
        ),
    )


def publish(
    session: Session,
    folder: Path,
    *,
    name: str | None = None,
    version: str = "0.1.0",
    steps: int = 16,
    terms: str | None = None,
    card: str | None = None,
    auxiliary: bool = True,
    overwrite: bool = False,
) -> Stack:
    """Write the stack folder, calibrate it on val, and fill its model card; whole, or not at all.

    Args:
        session: the run whose stages are trained.
        folder: where the stack goes.
        name: of the stack; the folder's by default.
        version: of the stack.
        steps: sampler steps a future.
        terms: what the weights were trained on and what may be done with them, in words.
        card: the text of MODEL_CARD.md; ``None`` fills one from the figures measured here.
        auxiliary: publish stage 1's own classifier for the grade now where it does better on val.
        overwrite: replace a folder that is there.

    Raises:
        UsageError: a stage is missing, or val has no knee of some grade.
    """
    if folder.exists() and not overwrite:
        raise UsageError(f"{folder} exists: choose another --stack, or add --overwrite")
    recipe, data = session.recipe, session.data
    val = data.knees["val"].graded()
    if missing := [grade for grade in range(4) if not (val.grade == grade).any()]:
        raise UsageError(
            f"no val knee has KL grade {missing[0]}: a stack is calibrated grade by grade, on a cohort that "
            "has grades 0 to 3 among its val participants (other split seed or shares may do)"
        )
    modules, plain = _trained(session)
    encoder = modules["encoder"]
    assert isinstance(encoder, Encoder)
    fit_novelty(encoder, data.knees["train"], session)
    looks = [encode_knees(encoder, val, session, zoom) for zoom in recipe.classifier.grade_zooms]
    grade = torch.from_numpy(val.grade).to(session.device)
    first = modules.pop("auxiliary")
    if auxiliary and cross_entropy(first, looks[0], grade) < cross_entropy(modules[NOW], looks[0], grade):
        log.info("classifier_now: the auxiliary classifier does better on val and is published")
        modules[NOW] = first
    for component in (NOW, LATER):
        module = modules[component]
        assert isinstance(module, Classifier)
        seen = looks if component == NOW else looks[:1]
        fit_grade_bias(module, seen, val.grade, recipe.seed)
        fit_temperature(module, seen, grade)
        log.info("%s: temperature %.3f", component, module.temperature.item())
    latent = tuple(int(n) for n in looks[0].shape[1:])
    said = terms or (
        f"Trained on: {data.name}, prepared by the publisher; that cohort's data agreement decides what may "
        "be done with these weights. Research use only."
    )
    # The auxiliary heads, the optimiser's state and the codebook's usage stay behind.
    entries = {
        # The nearest code is a cliff: bfloat16 features would change a sixth of the codes.
        component: StackComponent(spec, said, plain[component], float32_only=component == "encoder")
        for component, spec in specs((latent[0], latent[1], latent[2])).items()
    }
    modules["localiser"], entries["localiser"] = _localiser(session, said)
    futures = "real second visits" if uses_visits(session) else "surrogate futures"
    description = StackDescription(
        name=name or folder.name,
        version=version,
        summary=f"{data.name}, {futures}; research use, no medical device",
        crop_size=recipe.crop_size,
        field_of_view_mm=FIELD_MM,
        latent_shape=(latent[0], latent[1], latent[2]),
        steps=steps,
        samples=1,
        micro_batch=_MICRO_BATCH,
        grade_zooms=recipe.classifier.grade_zooms,
        components=entries,
    )
    record = {
        "kneerisk": __version__,
        "recipe": dataclass_values(recipe),
        "data": data.provenance,
        "splits_sha256": data.splits_sha256,
        "futures": futures,
        "knees": {split: len(knees) for split, knees in data.knees.items()},
    }
    training = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
    modules = {component: module.cpu() for component, module in modules.items()}
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        stack = write_stack(
            draft, description, modules, calibration={}, model_card="", training=training, overwrite=True
        )
        calibrated = calibrate(stack, session)
        text = card or model_card(calibrated, session, measure(calibrated, session))
        write = revise_stack(calibrated, model_card=text)
        return _move(write, folder)
    finally:
        _remove(draft)


def calibrate(stack: Stack, session: Session) -> Stack:
    """Fit the calibration to the published networks' own answers on val, and publish it with them.

    The slopes come from the discrimination that val's own pairs of visits show where enough of them rise;
    else from what was measured on real knees elsewhere (:func:`kneerisk.method.calibration.fit`'s defaults).
    """
    data = session.data
    val = data.knees["val"]
    with Networks(stack) as networks:
        forecast = split_forecast(networks, val)
    graded = val.grade >= 0
    aucs = {}
    if (measured := within_grade_auc(forecast, val, data.pairs["val"])) is not None:
        by_image, given_grade = (float(np.clip(auc, *_AUC_BOUNDS)) for auc in measured)
        log.info("val pairs: AUC within grades %.3f from the image, %.3f given the grade", *measured)
        aucs = {"auc_image": by_image, "auc_given_grade": given_grade}
    calibration = fit(
        forecast.p_now[graded],
        forecast.p_12m[graded],
        val.grade[graded],
        [float(rate) for rate in rise_rates(data.rates.moves)],
        population=f"{data.rates.population}. Among the validation split's knees of each grade, the mean "
        "risk is that grade's rate.",
        novelty_threshold=round(float(np.quantile(forecast.novelty, 0.999)), 4),
        **aucs,
    )
    return revise_stack(stack, calibration=json.loads(calibration.to_json()))


def _trained(session: Session) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The run's modules by component (and ``auxiliary``), and their configs as plain values."""
    recipe = session.recipe
    autoencoder = load_autoencoder(session)
    configs: dict[str, Any] = {
        "encoder": recipe.vqvae.encoder,
        "decoder": recipe.vqvae.decoder,
        "unet": recipe.diffusion.unet,
        NOW: recipe.classifier.classifier,
        LATER: recipe.classifier.classifier,
    }
    plain = {name: json.loads(json.dumps(dataclasses.asdict(config))) for name, config in configs.items()}
    modules: dict[str, nn.Module] = {
        "encoder": autoencoder.encoder,
        "decoder": autoencoder.decoder,
        "auxiliary": autoencoder.classifier,
    }
    for name, file in (("unet", DIFFUSION), (NOW, NOW), (LATER, LATER)):
        modules[name] = build(name, plain[name])
        modules[name].load_state_dict(trained_weights(session.out, file))
        modules[name].to(session.device).eval()
    return modules, plain


def _localiser(session: Session, terms: str) -> tuple[nn.Module, StackComponent]:
    """The run's own localiser or, where it has none, that of the stack that cut the knees out."""
    config = session.recipe.localiser
    if config is not None:
        plain = json.loads(json.dumps(dataclasses.asdict(config.localiser)))
        module = build(LOCALISER, plain)
        module.load_state_dict(trained_weights(session.out, LOCALISER))
        return module, StackComponent(localiser_spec(config.localiser.size), terms, plain)
    # Crops that came as they are were cut out by nobody: the shipped localiser finds such knees too.
    used = str(session.data.provenance.get("stack") or "compact")
    known = available_stacks()
    named = next((name for name, folder in known.items() if Stack.load(folder).name == used), "compact")
    stack = Stack.load(named)
    if stack.name != used and used != "compact":
        log.warning("the stack %s that cut the knees out is not here: publishing %s's localiser", used, named)
    entry = stack.component(LOCALISER)
    module = build(LOCALISER, dict(entry.config))
    load_initial(stack, {LOCALISER: module})
    return module, entry


def _move(stack: Stack, folder: Path) -> Stack:
    """A finished stack into its place; what was there goes."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    stack.folder.rename(folder)
    _remove(old)
    return Stack.load(folder)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


@torch.no_grad()
def fit_novelty(encoder: Encoder, knees: Knees, session: Session) -> None:
    """Mean and whitening of the training radiographs' feature statistics, into the encoder's buffers."""
    encoder.eval()
    crops = made_batches(lambda i: equalise(knees.pixels[i].astype(np.uint16)), len(knees), session)
    statistics = torch.cat([encoder.statistics(encoder.features(part)) for part in crops]).double()
    values, vectors = torch.linalg.eigh(torch.cov(statistics.T))
    # Directions with next to no spread would turn rounding into novelty.
    whitening = vectors / (values + 1e-3 * values.mean()).clamp(min=1e-12).sqrt()
    encoder.novelty_mean.copy_(statistics.mean(dim=0))
    encoder.novelty_whitening.copy_(whitening)


@torch.no_grad()
def cross_entropy(classifier: nn.Module, latents: Tensor, grade: Tensor) -> float:
    """Mean cross-entropy of a classifier's P(KL) on given knees."""
    classifier.eval()
    p = torch.cat([classifier(part)[0] for part in torch.split(latents, 64)])
    return F.nll_loss(p.clamp(min=1e-9).log(), grade).item()


@torch.no_grad()
def mean_logits(classifier: Classifier, looks: Sequence[Tensor]) -> Tensor:
    """Logits [N, 5] of several looks at the same knees (latents [N, C, h, w] each), averaged.

    Their softmax is the geometric mean of the looks' posteriors, as scoring forms it.
    """
    classifier.eval()
    return torch.stack(
        [torch.cat([classifier.logits(part)[0] for part in torch.split(latents, 64)]) for latents in looks]
    ).mean(dim=0)


@torch.no_grad()
def fit_grade_bias(
    classifier: Classifier, looks: Sequence[Tensor], grade: npt.NDArray[np.int64], seed: int
) -> None:
    """Move the grade head's biases to where accuracy plus quadratic kappa is best on given knees.

    Cross-entropy with soft targets leans towards the common grade 0. Random biases are tried; the mean of the
    best hundredth is taken, less of an accident than the single best.
    """
    logits = mean_logits(classifier, looks).cpu().numpy()
    tried = np.random.default_rng((seed, 9)).normal(0, 0.25, (3000, 5))

    def merit(bias: npt.NDArray[np.float64]) -> float:
        decided = (logits + bias).argmax(axis=1)
        return float((decided == grade).mean() + cohen_kappa_score(grade, decided, weights="quadratic"))

    merits = np.array([merit(bias) for bias in tried])
    chosen = tried[np.argsort(merits)[-30:]].mean(axis=0)
    chosen -= chosen.mean()
    log.info("grade biases %s: merit %.4f → %.4f", chosen.round(3), merit(np.zeros(5)), merit(chosen))
    head = classifier.grade[1]
    assert isinstance(head, nn.Linear)
    head.bias.add_(torch.from_numpy(chosen.astype(np.float32)).to(head.bias.device))


def fit_temperature(classifier: Classifier, looks: Sequence[Tensor], grade: Tensor) -> None:
    """The softmax temperature of least cross-entropy on given knees (arXiv 1706.04599), into the buffer."""
    logits = mean_logits(classifier, looks)
    candidates = torch.linspace(0.3, 3.0, 541)
    losses = torch.stack([F.cross_entropy(logits / float(t), grade) for t in candidates])
    classifier.temperature.fill_(candidates[losses.argmin()].item())
