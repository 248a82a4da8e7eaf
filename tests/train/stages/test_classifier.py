"""What the classifier of the grade now is asked for."""

from dataclasses import replace

import pytest
import torch
from kneerisk_train.run.recipe import load_recipe
from kneerisk_train.stages.classifier import reading_terms


def test_delta_weighs_the_landmarks_and_nothing_else():
    recipe = load_recipe("debug")
    marked = torch.full((2, 16, 2), 20.0)
    seen = (torch.zeros(2, 5), marked + 8, torch.tensor([1, 3]), marked)
    terms = {}
    for delta in (0.5, 1.0):
        weighed = replace(recipe, classifier=replace(recipe.classifier, delta=delta))
        terms[delta] = reading_terms(*seen, weighed)
    assert terms[0.5]["landmarks"].item() == pytest.approx(0.5 * 8 / 4)  # in units of 4 px
    assert terms[1.0]["landmarks"].item() == pytest.approx(8 / 4)
    assert terms[0.5]["grade"] == terms[1.0]["grade"] > 0
