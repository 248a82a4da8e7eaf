"""The localiser network: shapes, sizes, what it may be asked for."""

from __future__ import annotations

import pytest
import torch

from kneerisk.models.localiser import Localiser, LocaliserConfig


def test_outputs_are_maps_of_a_quarter_and_bounded() -> None:
    torch.manual_seed(0)
    module = Localiser(LocaliserConfig()).eval()
    with torch.inference_mode():
        centres, width, implant, inverted = module(torch.rand(2, 1, 256, 256))
    assert centres.shape == (2, 2, 64, 64) and width.shape == implant.shape == (2, 1, 64, 64)
    assert inverted.shape == (2,) and (width > 0).all()
    for share in (centres, implant, inverted):
        assert ((share >= 0) & (share <= 1)).all()
    assert sum(p.numel() for p in module.parameters()) < 400_000
    assert not any("code" in name for name, _ in module.named_parameters())


@pytest.mark.parametrize("wrong", [{"size": 200}, {"widths": (8, 8)}, {"widths": (8, 0, 8)}])
def test_impossible_sizes_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"size|widths"):
        LocaliserConfig(**wrong)  # type: ignore[arg-type]
