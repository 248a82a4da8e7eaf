"""A grade head's temperature and biases, fitted by likelihood on knees that it did not learn from."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kneerisk.models.classifier import Classifier

log = logging.getLogger(__name__)


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
    """Set the temperature and move the biases to where the grades of given knees are likeliest.

    P(KL) = softmax(logits / T + b), T and b of least cross-entropy (arXiv 1706.04599 with biases).  Never by
    the best grade alone: what is read off the posterior is a probability.

    Args:
        classifier: changed in place; its temperature and last biases.
        looks: latents [N, C, h, w] of the same knees, a tensor a look.
        grade: [N], the readers' grades.
    """
    logits = mean_logits(classifier, looks).double().cpu()
    target = torch.from_numpy(np.asarray(grade))
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([log_temperature, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        # A grade that no knee has would send its bias off to minus infinity: a little holds it.
        value = F.cross_entropy(logits * (-log_temperature).exp() + bias, target) + 1e-4 * bias.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        before = F.cross_entropy(logits / classifier.temperature.double().cpu(), target).item()
        solver.step(loss)  # type: ignore[no-untyped-call]
        after = loss().item()
    temperature = log_temperature.detach().exp()
    head = classifier.grade[1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        moved = (bias.detach() - bias.detach().mean()) * temperature
        head.bias.add_(moved.to(head.bias))
        classifier.temperature.fill_(temperature.item())
    log.info("grade head: temperature %.3f, cross-entropy %.4f → %.4f", temperature.item(), before, after)
