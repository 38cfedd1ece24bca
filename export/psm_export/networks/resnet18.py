"""The encoder of temporal consistency: ResNet-18 without its classes, then 256 numbers of length 1.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, table 1 (18 layers), and Lu,
Tavabi, Soleymani, "Self-supervised learning for facial action unit recognition through temporal consistency", BMVC
2020. Keys are those of the authors' files, where the network is a Sequential of torchvision's parts.
"""

from __future__ import annotations

from torch import Tensor, nn

FACE_PX = 256
CODE = 256
_SHORTEST = 1e-12
"""A vector shorter than this is not brought to length 1: it has no direction."""


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride > 1 or into != out:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, into, H, W]. Returns [N, out, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        summed: Tensor = self.relu(y + shortcut)
        return summed


class TemporalConsistency(nn.Module):
    """Face to embedding; 11,307,840 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet18 = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            nn.Sequential(Block(64, 64, 1), Block(64, 64, 1)),
            nn.Sequential(Block(64, 128, 2), Block(128, 128, 1)),
            nn.Sequential(Block(128, 256, 2), Block(256, 256, 1)),
            nn.Sequential(Block(256, 512, 2), Block(512, 512, 1)),
            nn.AdaptiveAvgPool2d(1),
        )
        self.fc1 = nn.Linear(512, CODE)

    def forward(self, images: Tensor) -> Tensor:
        """images: [N, 3, 256, 256], ImageNet-normalised RGB. Returns embeddings [N, 256] of length 1."""
        x = self.fc1(self.resnet18(images).flatten(1))
        embeddings: Tensor = x / x.norm(dim=1, keepdim=True).clamp_min(_SHORTEST)
        return embeddings
