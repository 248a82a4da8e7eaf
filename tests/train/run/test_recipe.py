"""Recipes: every shipped one loads; a wrong key or type is named."""

from itertools import pairwise
from pathlib import Path

import kneerisk_train.run.recipe
import pytest
import yaml
from kneerisk_train.run.recipe import OptimConfig, load_recipe

from kneerisk.errors import UsageError

SHIPPED = sorted((Path(kneerisk_train.run.recipe.__file__).parents[1] / "recipes").glob("*.yaml"))
COMPACT = next(path for path in SHIPPED if path.stem == "compact")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_under_their_own_name(path):
    assert load_recipe(path.stem).name == path.stem


def changed(tmp_path, change):
    document = yaml.safe_load(COMPACT.read_text(encoding="utf-8"))
    change(document)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


def test_an_unknown_key_is_named(tmp_path):
    path = changed(tmp_path, lambda d: d["vqvae"].update(betta=0.3))
    with pytest.raises(UsageError, match=r"mine\.yaml\.vqvae: has unknown keys betta"):
        load_recipe(path)


def test_a_value_of_another_type_is_named(tmp_path):
    path = changed(tmp_path, lambda d: d["vqvae"]["optim"].update(steps="many"))
    with pytest.raises(UsageError, match=r"mine\.yaml\.vqvae\.optim\.steps: 'many' is not a whole number"):
        load_recipe(path)


def test_a_missing_key_is_named(tmp_path):
    path = changed(tmp_path, lambda d: d["diffusion"]["optim"].pop("steps"))
    with pytest.raises(UsageError, match=r"mine\.yaml\.diffusion\.optim\.steps: is missing"):
        load_recipe(path)


def test_sizes_that_cannot_be_are_refused(tmp_path):
    path = changed(tmp_path, lambda d: d["diffusion"].update(views=0))
    with pytest.raises(UsageError, match="views 0 must be at least 1"):
        load_recipe(path)


def test_a_recipe_that_is_not_there_lists_those_that_are():
    with pytest.raises(UsageError, match="compact"):
        load_recipe("enormous")


def test_the_rate_warms_up_then_falls_to_nothing():
    config = OptimConfig(steps=100, learning_rate=0.1, warmup_steps=10)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.1, rel=0.05)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 0.001
