"""A grade head's temperature, caution and biases, by likelihood on knees that it did not learn from."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kneerisk.models.classifier import Classifier, posterior

log = logging.getLogger(__name__)

MOST_CAUTION = 0.6


@torch.no_grad()
def mean_logits(classifier: Classifier, looks: Sequence[Tensor]) -> Tensor:
    """Logits [N, 5] of several looks at the same knees (latents [N, C, h, w] each), averaged.

    Their softmax is the geometric mean of the looks' posteriors, as scoring forms it.
    """
    classifier.eval()
    return torch.stack(
        [torch.cat([classifier.logits(part)[0] for part in torch.split(latents, 64)]) for latents in looks]
    ).mean(dim=0)


def fit_head(classifier: Classifier, looks: Sequence[Tensor], grade: npt.NDArray[np.int64]) -> None:
    """Set temperature and caution and move the biases to where the grades of given knees are likeliest.

    P(KL) = :func:`kneerisk.models.classifier.posterior` of logits / T + b; T, b and caution of least
    cross-entropy (arXiv 1706.04599 with biases and caution).  Never by the best grade alone: what is read off
    the posterior is a probability.

    Args:
        classifier: changed in place; its temperature, caution and last biases.
        looks: latents [N, C, h, w] of the same knees, a tensor a look.
        grade: [N], the readers' grades.
    """
    logits = mean_logits(classifier, looks).double().cpu()
    target = torch.from_numpy(np.asarray(grade))
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    # Between 0 and MOST_CAUTION: beyond it the grades would change their order.
    raw_caution = torch.full((), -2.0, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [log_temperature, raw_caution, bias], max_iter=200, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        # A grade that no knee has would send its bias off to minus infinity: a little holds it.
        scaled = logits * (-log_temperature).exp() + bias
        p = posterior(scaled, MOST_CAUTION * raw_caution.sigmoid())
        value = F.nll_loss(p.log(), target) + 1e-4 * bias.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        held = posterior(logits / classifier.temperature.double().cpu(), classifier.caution.double().cpu())
        before = F.nll_loss(held.log(), target).item()
        solver.step(loss)  # type: ignore[no-untyped-call]
        after = loss().item()
    temperature = log_temperature.detach().exp()
    head = classifier.grade[1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        moved = (bias.detach() - bias.detach().mean()) * temperature
        head.bias.add_(moved.to(head.bias))
        classifier.temperature.fill_(temperature.item())
        classifier.caution.fill_(MOST_CAUTION * raw_caution.detach().sigmoid().item())
    log.info(
        "grade head: temperature %.3f, caution %.3f, cross-entropy %.4f → %.4f",
        temperature.item(),
        classifier.caution.item(),
        before,
        after,
    )
