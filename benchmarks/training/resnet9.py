"""A residual network of nine layers, which small pictures train from scratch."""

import torch
from torch import Tensor, nn

WIDTH = 64
NARROW = 8  # for CPUs: an eighth of the channels


class Channels(nn.Module):
    """A network on images whose channels lie last in memory, in bfloat16 on CUDA.

    Outputs are float32, so that heads and losses never see the shorter numbers.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        kind = images.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            outputs: Tensor = self.network(images)
        return outputs.float()


class Residual(nn.Module):
    """Two layers whose outputs are added to their inputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(width, width), *_layer(width, width))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.layers(x)
        return added


def resnet9(width: int = WIDTH) -> nn.Module:
    """Make the trunk: (B, 3, H, W) -> (B, 8 width), H and W at least 8.

    Args:
        width: channels of the first layer.

    Source: He et al., CVPR 2016, as shortened by Page, 2018 (DAWNBench).  Differs: the
    maximum over all places ends it, whatever the size of the image.
    """
    layers = [
        *_layer(3, width),
        *_layer(width, 2 * width, halved=True),
        Residual(2 * width),
        *_layer(2 * width, 4 * width, halved=True),
        *_layer(4 * width, 8 * width, halved=True),
        Residual(8 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    ]
    return Channels(nn.Sequential(*layers))


def _layer(before: int, after: int, halved: bool = False) -> list[nn.Module]:
    """Convolve, halve the sides if asked for, normalise, rectify."""
    return [
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        *([nn.MaxPool2d(2)] if halved else []),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]
