"""Starting from a published stack: its weights into modules of the same shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from kneerisk_engines.weights import WEIGHTS_NAME, read_weights
from torch import nn

from kneerisk.errors import UsageError
from kneerisk.stack.stack import Stack


def load_initial(stack: Stack, modules: Mapping[str, nn.Module]) -> None:
    """Copy a stack's components into modules, in place.

    What a stack does not keep (a codebook's usage, counts of batches) starts anew.

    Args:
        stack: the published stack of ``--init``.
        modules: component's name → the module it is copied into.

    Raises:
        UsageError: a module has another shape than the stack's component; names the first array that differs.
    """
    for component, module in modules.items():
        arrays, unused = read_weights(stack.folder / WEIGHTS_NAME, component)
        own = module.state_dict()
        for name, value in own.items():
            if name in unused or (name == "caution" and name not in arrays):  # unknown to older stacks: none
                continue
            has = tuple(arrays[name].shape) if name in arrays else "missing"
            if has != tuple(value.shape):
                raise UsageError(
                    f"--init {stack.name}: its {component} does not fit the recipe ({name} is {has}, the "
                    f"recipe wants {tuple(value.shape)}): take the sizes of the stack's recipe"
                )
        found = {name: torch.from_numpy(array) for name, array in arrays.items() if name in own}
        module.load_state_dict(own | found)
