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
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from engines.spec import ArraySpec, ComponentSpec
from kneerisk.calibration import fit, rise_rates
from kneerisk.exposure import equalise
from kneerisk.models import build
from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder
from kneerisk.stack import Stack, StackComponent, StackDescription
from kneerisk.stack_write import revise_stack, write_stack
from train import chen
from train.classifier import encode_knees
from train.diffusion import load_autoencoder
from train.forecast import Networks
from train.localiser import CONFIG_FILE, WEIGHTS_FILE
from train.recipe import Recipe
from train.surrogate import batches, transition_rates

log = logging.getLogger(__name__)

FIELD_OF_VIEW_MM = 96.0
POPULATION = (
    "Osteoarthritis Initiative, knees of the train and val participants: P(KL grade rises within 12 months) "
    "by reader's grade (kl_transitions.csv). Fitted on Chen's val knees: each grade's mean risk is that rate."
)
ATTRIBUTION = (
    "Trained on: Chen P. (2018), Knee Osteoarthritis Severity Grading Dataset, Mendeley Data, "
    "doi 10.17632/56rmx5bjcr.1, CC BY 4.0."
)
RESEARCH_USE = ATTRIBUTION + (
    " And on KNEEL's landmark points (Tiulpin, Melekhov & Saarakkala 2019, arXiv 1907.12237): "
    "research use only."
)


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


def load_localiser(out: Path) -> tuple[nn.Module, StackComponent]:
    """The trained localiser of this folder, and its entry in a stack."""
    from safetensors.torch import load_file

    config: dict[str, Any] = json.loads((out / CONFIG_FILE).read_text(encoding="utf-8"))
    module = build("localiser", config)
    module.load_state_dict(load_file(out / WEIGHTS_FILE))
    size, cells = config["size"], config["size"] // 4
    spec = ComponentSpec(
        "localiser",
        (ArraySpec("radiograph", (1, size, size)),),
        (
            ArraySpec("centres", (2, cells, cells)),
            ArraySpec("width", (1, cells, cells)),
            ArraySpec("implant", (1, cells, cells)),
            ArraySpec("inverted"),
        ),
    )
    return module, StackComponent(spec, ATTRIBUTION, config)


def publish(
    recipe: Recipe,
    data: Path,
    out: Path,
    folder: Path,
    *,
    version: str,
    steps: int,
    model_card: str,
) -> Stack:
    """Write the stack folder and calibrate it on val.

    Args:
        recipe: what the networks were trained by.
        data: Chen's folder.
        out: where the stages left their weights.
        folder: where the stack goes; one that is there is replaced.
        version: of the stack.
        steps: sampler steps a future.
        model_card: the text of MODEL_CARD.md.
    """
    torch.set_num_threads(recipe.threads)
    train_knees, val = chen.load(data, "train"), chen.load(data, "val")
    autoencoder = load_autoencoder(recipe, out)
    encoder = autoencoder.encoder
    fit_novelty(encoder, train_knees)
    modules: dict[str, nn.Module] = {"encoder": encoder, "decoder": autoencoder.decoder}
    configs: dict[str, Any] = {
        "encoder": recipe.vqvae.encoder,
        "decoder": recipe.vqvae.decoder,
        "unet": recipe.diffusion.unet,
        "classifier_now": recipe.classifier.classifier,
        "classifier_12m": recipe.classifier.classifier,
    }
    plain = {name: json.loads(json.dumps(dataclasses.asdict(config))) for name, config in configs.items()}
    for name, file in (("unet", "diffusion.pt"), ("classifier_now", None), ("classifier_12m", None)):
        modules[name] = build(name, plain[name])
        modules[name].load_state_dict(torch.load(out / (file or f"{name}.pt"), weights_only=True))
    latents = encode_knees(encoder, val)
    zoomed_latents = [encode_knees(encoder, val, zoom) for zoom in recipe.classifier.grade_zooms[1:]]
    grade = torch.from_numpy(val.grade)
    if cross_entropy(autoencoder.classifier, latents, grade) < cross_entropy(
        modules["classifier_now"], latents, grade
    ):
        log.info("classifier_now: the auxiliary classifier does better on val and is published")
        modules["classifier_now"] = autoencoder.classifier
    for name in ("classifier_now", "classifier_12m"):
        module = modules[name]
        assert isinstance(module, Classifier)
        looks = [latents, *zoomed_latents] if name == "classifier_now" else [latents]
        fit_grade_bias(module, looks, val.grade, recipe.seed)
        fit_temperature(module, looks, grade)
        log.info("%s: temperature %.3f", name, module.temperature.item())
    # The auxiliary heads, the optimiser's state and the codebook's usage stay behind.
    _, channels, height, width = latents.shape
    entries = {
        # The nearest code is a cliff: bfloat16 features would change a sixth of the codes.
        name: StackComponent(spec, RESEARCH_USE, plain[name], float32_only=name == "encoder")
        for name, spec in specs((channels, height, width)).items()
    }
    modules["localiser"], entries["localiser"] = load_localiser(out)
    description = StackDescription(
        name=recipe.name,
        version=version,
        summary="Chen's knees (OAI baseline), surrogate futures; research use, no medical device",
        crop_size=chen.CROP_SIZE,
        field_of_view_mm=FIELD_OF_VIEW_MM,
        latent_shape=(channels, height, width),
        steps=steps,
        samples=1,
        micro_batch=8,
        grade_zooms=recipe.classifier.grade_zooms,
        components=entries,
    )
    stack = write_stack(folder, description, modules, calibration={}, model_card=model_card, overwrite=True)
    return calibrate(stack, val, data)


def calibrate(stack: Stack, val: chen.Knees, data: Path) -> Stack:
    """Fit the calibration to the published networks' own answers on val, and publish it with them."""
    with Networks(stack) as networks:
        forecast = networks.forecast(val, stack.description.steps)
    rates = rise_rates(transition_rates(data.parent / "kl_transitions.csv"))
    calibration = fit(
        forecast.p_now,
        forecast.p_12m,
        val.grade,
        [float(rate) for rate in rates],
        population=POPULATION,
        novelty_threshold=round(float(np.quantile(forecast.novelty, 0.999)), 4),
    )
    return revise_stack(stack, calibration=json.loads(calibration.to_json()))


@torch.no_grad()
def fit_novelty(encoder: Encoder, knees: chen.Knees) -> None:
    """Mean and whitening of the training radiographs' feature statistics, into the encoder's buffers."""
    encoder.eval()
    crops = batches(lambda i: equalise(knees.pixels[i].astype(np.uint16)), len(knees.grade))
    statistics = torch.cat([encoder.statistics(encoder.features(part)) for part in crops]).double()
    values, vectors = torch.linalg.eigh(torch.cov(statistics.T))
    # Directions with next to no spread would turn rounding into novelty.
    whitening = vectors / (values + 1e-3 * values.mean()).sqrt()
    encoder.novelty_mean.copy_(statistics.mean(dim=0))
    encoder.novelty_whitening.copy_(whitening)


@torch.no_grad()
def cross_entropy(classifier: nn.Module, latents: Tensor, grade: Tensor) -> float:
    """Mean cross-entropy of a classifier's P(KL) on given knees."""
    classifier.eval()
    p = torch.cat([classifier(part)[0] for part in torch.split(latents, 64)])
    return F.nll_loss(p.log(), grade).item()


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
    logits = mean_logits(classifier, looks).numpy()
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
    head.bias.add_(torch.from_numpy(chosen.astype(np.float32)))


def fit_temperature(classifier: Classifier, looks: Sequence[Tensor], grade: Tensor) -> None:
    """The softmax temperature of least cross-entropy on given knees (arXiv 1706.04599), into the buffer."""
    logits = mean_logits(classifier, looks)
    candidates = torch.linspace(0.3, 3.0, 541)
    losses = torch.stack([F.cross_entropy(logits / t, grade) for t in candidates])
    classifier.temperature.fill_(candidates[losses.argmin()].item())
