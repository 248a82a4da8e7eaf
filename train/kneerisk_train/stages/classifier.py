"""Stage 3: two classifiers on latents, one for the grade now, one for the grade of a forecast latent.

Both start from the auxiliary classifier of stage 1 and train independently, as in the paper (arXiv
2506.14560): the first on latents of radiographs, the second on futures with noise added, because a forecast
is not exactly on the codes.  Loss = the grades' loss + delta * landmark distance where a knee's landmarks
are known.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kneerisk.method.exposure import equalise
from kneerisk.method.views import zoomed
from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder
from kneerisk_train.data.knees import Knees
from kneerisk_train.data.labels import draw_chances
from kneerisk_train.run.loop import Batch, Stage, call, fit
from kneerisk_train.run.session import Session
from kneerisk_train.stages.coding import latents_of, made_batches
from kneerisk_train.stages.futures import open_futures
from kneerisk_train.stages.initial import load_initial
from kneerisk_train.stages.losses import grade_loss, landmark_loss
from kneerisk_train.stages.vqvae import grade_figures, load_autoencoder

NOW, LATER = "classifier_now", "classifier_12m"
LARGEST_NOISE = 0.3
"""Standard deviation, at most, of the noise on the second classifier's latents (their own is 1)."""
_FIGURES_EVERY = 100


def train(session: Session) -> tuple[Classifier, Classifier]:
    """Train both classifiers; returns their averaged weights."""
    recipe = session.recipe
    autoencoder = load_autoencoder(session)
    futures = open_futures(session)
    coded = futures.coded
    quantiser = autoencoder.encoder.quantiser
    val = session.data.knees["val"].graded()
    val_latents = encode_knees(autoencoder.encoder, val, session)
    chances = draw_chances(coded.grade, recipe.labels.balance)
    chances = np.where(coded.grade >= 0, chances, 0)
    chances /= chances.sum()

    def now(step: int, rng: np.random.Generator) -> Batch:
        chosen = rng.choice(len(chances), recipe.classifier.optim.batch_size, p=chances)
        view = rng.integers(0, coded.views, len(chosen))
        return (
            torch.from_numpy(coded.codes[chosen, view]),
            torch.from_numpy(coded.grade[chosen]),
            torch.from_numpy(coded.landmarks[chosen, view]),
        )

    def later(step: int, rng: np.random.Generator) -> Batch:
        drawn = futures.draw(rng, recipe.classifier.optim_12m.batch_size)
        return torch.from_numpy(drawn.future), torch.from_numpy(drawn.grade)

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        codes, grade, *marks = arrays
        latents = latents_of(quantiser, codes)
        # Nobody marked a future: the auxiliary classifier reads it, without noise, instead.
        landmarks = marks[0] if marks else autoencoder.classifier(latents)[1].detach()
        logits, points = call(training, "logits", spoil(latents))
        return {
            "grade": grade_loss(logits.float(), grade, recipe.labels),
            "landmarks": recipe.classifier.delta * landmark_loss(points.float(), landmarks, recipe.crop_size),
        }

    trained = []
    for name, batch, optim in (
        (NOW, now, recipe.classifier.optim),
        (LATER, later, recipe.classifier.optim_12m),
    ):
        module = Classifier(recipe.classifier.classifier)
        module.load_state_dict(autoencoder.classifier.state_dict())
        if session.initial is not None:
            load_initial(session.initial, {name: module})
        stage = Stage(
            name=name,
            module=module,
            optim=optim,
            batch=batch,
            terms=terms,
            figures=lambda average: evaluate(average, val, val_latents),
            figures_every=_FIGURES_EVERY,
            forward_methods=("logits",),
        )
        averaged = fit(session, stage)
        assert isinstance(averaged, Classifier)
        trained.append(averaged)
    return trained[0], trained[1]


def spoil(latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] with noise on them and, in a third of them, a rectangle set to zero."""
    count, _, height, width = latents.shape
    device = latents.device
    spread = torch.rand(count, 1, 1, 1, device=device) * LARGEST_NOISE
    spoilt = latents + spread * torch.randn_like(latents)
    largest = max(2, height // 3)
    tall, wide = (torch.randint(min(3, largest - 1), largest, (count, 1), device=device) for _ in range(2))
    top = (torch.rand(count, 1, device=device) * (height - tall)).long()
    left = (torch.rand(count, 1, device=device) * (width - wide)).long()
    rows, columns = torch.arange(height, device=device)[None], torch.arange(width, device=device)[None]
    within = ((rows >= top) & (rows < top + tall))[:, :, None] & (
        (columns >= left) & (columns < left + wide)
    )[:, None, :]
    hit = torch.rand(count, 1, 1, device=device) < 1 / 3
    return spoilt.masked_fill((within & hit)[:, None], 0.0)


@torch.no_grad()
def encode_knees(encoder: Encoder, knees: Knees, session: Session, zoom: float = 1.0) -> Tensor:
    """Latents float32 [N, C, h, w] of crops as they are, or zoomed (:mod:`kneerisk.method.views`)."""

    def seen(index: int) -> npt.NDArray[np.float32]:
        return zoomed(equalise(knees.pixels[index].astype(np.uint16)), zoom)

    return torch.cat([encoder(part)[0] for part in made_batches(seen, len(knees), session)])


@torch.no_grad()
def predict(module: nn.Module, latents: Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """P(KL) float32 [N, 5] and landmarks float32 [N, 16, 2] of latents [N, C, h, w]."""
    module.eval()
    outputs = [
        module(part.contiguous(memory_format=torch.channels_last)) for part in torch.split(latents, 64)
    ]
    p, points = (torch.cat(parts).float().cpu().numpy() for parts in zip(*outputs, strict=True))
    return p, points


def evaluate(module: nn.Module, knees: Knees, latents: Tensor) -> dict[str, float]:
    """Accuracy, kappa, cross-entropy and landmark errors on graded knees."""
    p, landmarks = predict(module, latents)
    return grade_figures(p, landmarks, knees)
