"""The grade head's last fit makes chances of logits: by likelihood, and each the right way."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kneerisk_train.stages.heads import fit_head, mean_logits

from kneerisk.models.classifier import Classifier, ClassifierConfig, posterior

TINY = ClassifierConfig(
    crop_size=64,
    stem_channels=8,
    stages=((2, 3, 2, 8, 1), (2, 3, 1, 8, 1), (2, 3, 2, 8, 1), (2, 3, 1, 8, 1)),
    head_channels=16,
)


@pytest.fixture(scope="module")
def untouched() -> tuple[Classifier, torch.Tensor]:
    """A classifier of some opinion, and latents of 1,500 knees."""
    torch.manual_seed(0)
    classifier = Classifier(TINY).eval()
    latents = torch.randn(1500, 8, 8, 8) + 2 * torch.randn(1500, 8, 1, 1)
    last = classifier.grade[1]
    with torch.no_grad():
        # Untrained, it reads nearly the same off every knee.
        logits = mean_logits(classifier, [latents])
        last.weight.div_(logits.std(dim=0)[:, None] / 2)
        last.bias.zero_()
        last.bias.sub_(mean_logits(classifier, [latents]).mean(dim=0))
    return classifier, latents


@pytest.fixture
def reader(untouched: tuple[Classifier, torch.Tensor]) -> tuple[Classifier, torch.Tensor]:
    """The same, for a test to change."""
    return deepcopy(untouched[0]), untouched[1]


def drawn(p: torch.Tensor) -> np.ndarray:
    return torch.multinomial(p, 1, generator=torch.Generator().manual_seed(1))[:, 0].numpy()


def test_the_biases_and_the_temperature_that_made_the_grades_are_found(reader) -> None:
    classifier, latents = reader
    logits = mean_logits(classifier, [latents])
    moved, temperature = torch.tensor([0.9, -0.9, 0.4, -0.4, 0.0]), 1.8
    truth = ((logits + moved) / temperature).softmax(dim=1)
    before = classifier.grade[1].bias.detach().clone()
    fit_head(classifier, [latents], drawn(truth))
    assert classifier.temperature.item() == pytest.approx(temperature, rel=0.25)
    found = classifier.grade[1].bias.detach() - before
    assert np.corrcoef(found, moved)[0, 1] > 0.9
    with torch.no_grad():
        told = torch.cat([classifier(part)[0] for part in latents.split(500)])
    assert F.kl_div(told.log(), truth, reduction="batchmean") < 0.02


def test_caution_is_found_where_unsure_answers_were_too_bold(reader) -> None:
    classifier, latents = reader
    logits = mean_logits(classifier, [latents])
    truth = posterior(logits / 1.2, torch.tensor(0.4))
    fit_head(classifier, [latents], drawn(truth))
    assert classifier.caution.item() == pytest.approx(0.4, abs=0.12)
    with torch.no_grad():
        told = torch.cat([classifier(part)[0] for part in latents.split(500)])
    assert F.kl_div(told.log(), truth, reduction="batchmean") < 0.01


def test_what_the_fit_says_is_likelier_than_what_was_said_before(reader) -> None:
    classifier, latents = reader
    grade = drawn((2.0 * mean_logits(classifier, [latents])).softmax(dim=1))
    with torch.no_grad():
        before = F.nll_loss(classifier(latents)[0].log(), torch.from_numpy(grade))
        fit_head(classifier, [latents], grade)
        after = F.nll_loss(classifier(latents)[0].log(), torch.from_numpy(grade))
    assert after < before - 0.02
    assert classifier.temperature.item() < 0.8


def test_every_look_counts(reader) -> None:
    classifier, latents = reader
    both = mean_logits(classifier, [latents[:8], latents[8:16]])
    with torch.no_grad():
        alone = [classifier.logits(part)[0] for part in (latents[:8], latents[8:16])]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)


def test_a_grade_that_no_knee_has_stays_possible(reader) -> None:
    classifier, latents = reader
    fit_head(classifier, [latents[:200]], np.arange(200) % 4)
    with torch.no_grad():
        assert 1e-5 < classifier(latents[:200])[0][:, 4].mean() < 0.05
