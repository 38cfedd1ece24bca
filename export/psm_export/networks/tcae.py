"""TCAE's encoder: a face as 256 numbers of its expression (action units), and 256 of its pose, which is not exported.

Source: Li, Zeng, Shan, Chen, "Self-supervised representation learning from videos for facial action unit detection",
CVPR 2019; the network from its layer table. Attribute names are the authors', so that checkpoints fit key by key.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from psm_export.networks.fabnet import LEAK, halving

CODE = 256

# (convolution, its normalisation, output channels)
_SHARED = (
    ("conv1", "batch_norm", 32),
    ("conv2", "batch_norm2_0", 64),
    ("conv3", "batch_norm4_0", 128),
    ("conv4", "batch_norm8_0", 256),
    ("conv5", "batch_norm8_1", 256),
)
_POSE = (("conv6", "batch_norm8_2", 256), ("conv7", "batch_norm8_3", 256))
_EXPRESSION = (("conv6_1", "batch_norm8_2_1", 256), ("conv7_1", "batch_norm8_3_1", 256))
_POSE_END, _EXPRESSION_END = "conv8", "conv8_1"


class TcaeEncoder(nn.Module):
    """Face to expression; 8,035,488 parameters with the branch of the pose."""

    def __init__(self) -> None:
        super().__init__()
        width = self._add(3, _SHARED)
        for branch, end in ((_POSE, _POSE_END), (_EXPRESSION, _EXPRESSION_END)):
            self.add_module(end, halving(self._add(width, branch), CODE))

    def forward(self, images: Tensor) -> Tensor:
        """images: [N, 3, 256, 256] RGB, 0..1. Returns embeddings of the expression [N, 256], without bounds."""
        x = images
        for convolution, norm, _ in (*_SHARED, *_EXPRESSION):
            x = F.leaky_relu(self.get_submodule(norm)(self.get_submodule(convolution)(x)), LEAK)
        embeddings: Tensor = self.get_submodule(_EXPRESSION_END)(x).flatten(1)
        return embeddings

    def _add(self, into: int, layers: Sequence[tuple[str, str, int]]) -> int:
        """Add layers that read `into` channels. Returns how many the last one gives."""
        for convolution, norm, out in layers:
            self.add_module(convolution, halving(into, out))
            self.add_module(norm, nn.BatchNorm2d(out))
            into = out
        return into
