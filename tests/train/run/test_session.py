"""The arithmetic that a training takes unless told otherwise."""

import pytest
import torch
from kneerisk_train.run import session


@pytest.mark.parametrize(
    ("on_gpu", "has", "expected"),
    [(True, True, "bf16"), (True, False, "fp16"), (False, True, "bf16"), (False, False, "fp32")],
)
def test_bfloat16_is_taken_where_the_hardware_has_it(monkeypatch, on_gpu, has, expected) -> None:
    # The other device has what this one lacks: it must not be asked.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has if on_gpu else not has)
    monkeypatch.setattr(
        torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: not has if on_gpu else has, raising=False
    )
    assert session.usual_precision(on_gpu) == expected


def test_auto_asks_the_hardware(monkeypatch) -> None:
    monkeypatch.setattr(session, "usual_precision", lambda on_gpu: "unheard-of")
    with pytest.raises(Exception, match="unheard-of"):
        session.open_fabric("cpu", "auto")
