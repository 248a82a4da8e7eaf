"""The networks: plain ``nn.Module`` classes, one config dataclass each; torch is imported late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

COMPONENTS = ("encoder", "unet", "classifier_now", "classifier_12m", "decoder", "localiser")


def build(component: str, config: Mapping[str, Any]) -> nn.Module:
    """A component's module, untrained, from the plain values of a stack's ``config``.

    Raises:
        ValueError: an unknown component, or a config its network refuses.
        TypeError: a config with unknown or missing keys.
    """
    # YAML has lists where the frozen configs have tuples.
    values = {key: _tuples(value) for key, value in config.items()}
    if component == "encoder":
        from kneerisk.models.vqvae import Encoder, EncoderConfig

        return Encoder(EncoderConfig(**values))
    if component == "decoder":
        from kneerisk.models.vqvae import Decoder, DecoderConfig

        return Decoder(DecoderConfig(**values))
    if component == "unet":
        from kneerisk.models.unet import UNet, UNetConfig

        return UNet(UNetConfig(**values))
    if component in ("classifier_now", "classifier_12m"):
        from kneerisk.models.classifier import Classifier, ClassifierConfig, LaterClassifier

        made = Classifier if component == "classifier_now" else LaterClassifier
        return made(ClassifierConfig(**values))
    if component == "localiser":
        from kneerisk.models.localiser import Localiser, LocaliserConfig

        return Localiser(LocaliserConfig(**values))
    raise ValueError(f"unknown component {component!r}; known are {', '.join(COMPONENTS)}")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
