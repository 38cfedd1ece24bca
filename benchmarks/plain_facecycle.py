"""FaceCycle's training step as the authors compute it: float32, term after term, nothing shared. The peer to beat.

Written straight from the facts about the authors' layers and step, with plain functions over named weights, and sharing
no line with psm_adapt, so that it also serves the tests as a second, slow and obvious version. Like the authors it runs
the stem anew in each pass of the generator, computes the perceptual features of four copies of the images as targets,
and filters with an 11x11 window for each SSIM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]
"""Tensors of one network by the authors' keys."""
STEM = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")


@dataclass(frozen=True)
class PlainModel:
    """The four networks' tensors."""

    encoder: Weights
    flow_decoder: Weights
    generator: Weights
    vgg19: Weights


@dataclass(frozen=True)
class PlainStep:
    """What a step drew, and its loss."""

    images: dict[str, Tensor]
    terms: dict[str, Tensor]


def authors_step(
    model: PlainModel, batch_a: Tensor, batch_b: Tensor, noisy: bool, neutral_weight: float = 1.0
) -> PlainStep:
    """Compute images and loss of one step for batches [N, 3, 64, 64]; noise comes from the global random state."""
    faces = torch.cat((batch_a, batch_b))
    code = encode(model.encoder, faces)
    flow = decode_flow(model.flow_decoder, code)
    back = (-move(flow, flow)).clamp(-1, 1)
    neutral = generate(model.generator, faces, flow, noisy)
    swapped_neutral = swap(neutral)
    direct_forward = move_image(faces, flow)
    direct_backward = move_image(swap(direct_forward), back)
    swap_backward = move_image(swapped_neutral, back)
    recon = generate(model.generator, swapped_neutral, back, noisy)
    rec_img = generate(model.generator, faces, None, noisy)

    pixel = (recon - faces).abs().mean() + (rec_img - faces).abs().mean() + (swap_backward - faces).abs().mean()
    pixel = pixel + 1.5 * (direct_backward - faces).abs().mean()
    stack = torch.cat((neutral, swap_backward, direct_backward, recon))
    style = style_distance(model.vgg19, stack, torch.cat((faces, faces, faces, faces)))
    unlike = (1 - ssim(recon, faces)) + (1 - ssim(rec_img, faces)) + 1.5 * (1 - ssim(direct_backward, faces))
    lopsided = neutral_weight * asymmetry(neutral) + 0.5 * asymmetry(direct_forward)
    total = 0.01 * style + pixel + 1.5 * lopsided + 5 * unlike
    images = {
        "code": code,
        "flow": flow,
        "backflow": back,
        "neutral": neutral,
        "direct_forward": direct_forward,
        "direct_backward": direct_backward,
        "swap_backward": swap_backward,
        "recon": recon,
        "rec_img": rec_img,
    }
    terms = {"pixel": pixel, "perceptual": style, "ssim": unlike, "symmetry": lopsided, "total": total}
    return PlainStep(images, terms)


def encode(w: Weights, x: Tensor) -> Tensor:
    """[N, 3, 64, 64] to [N, 256, 1, 1]."""
    x = leaky(conv(w, "conv1.0", x, 2))
    x = leaky(conv(w, "conv1.2", x))
    x = attention(w, "layer1.2", leaky(conv(w, "layer1.0", x)))
    x = leaky(conv(w, "layer1.3", x))
    x = attention(w, "layer2_1.2", leaky(conv(w, "layer2_1.0", x, 2)))
    x = leaky(conv(w, "layer2_1.3", x))
    x = residual(w, "resblock2", residual(w, "resblock1", x))
    x = leaky(conv(w, "layer2_2.2", leaky(conv(w, "layer2_2.0", x, 2))))
    x = leaky(conv(w, "layer3_1.2", leaky(conv(w, "layer3_1.0", x, 2))))
    x = leaky(conv(w, "layer3_2.2", leaky(conv(w, "layer3_2.0", x))))
    x = x.reshape(len(x), 2048)
    x = leaky(F.linear(x, w["expresscode.0.weight"], w["expresscode.0.bias"]))
    x = F.linear(x, w["expresscode.2.weight"], w["expresscode.2.bias"])
    return x.reshape(len(x), 256, 1, 1).tanh()


def decode_flow(w: Weights, code: Tensor) -> Tensor:
    """[N, 256, 1, 1] to [N, 2, 16, 16]."""
    x = leaky(F.pixel_shuffle(conv(w, "motiongen1.0", code), 4))
    x = leaky(conv(w, "motiongen1.4", attention(w, "motiongen1.3", x)))
    x = leaky(conv(w, "motiongen2.1", doubled(x)))
    x = leaky(conv(w, "motiongen2.4", attention(w, "motiongen2.3", x)))
    x = residual(w, "resblock2", residual(w, "resblock1", x))
    x = leaky(conv(w, "toflow4.1", doubled(x)))
    return F.conv2d(x, w["toflow4.3.weight"]).tanh()


def generate(w: Weights, images: Tensor, flow: Tensor | None, noisy: bool) -> Tensor:
    """[N, 3, 64, 64], and a flow or none, to [N, 3, 64, 64]."""
    x = conv(w, "conv1_2.0", conv(w, "conv1_1.0", images).relu()).relu()
    feat2 = conv(w, "conv2_1.0", F.max_pool2d(x, 2)).relu()
    feat = conv(w, "conv3_1.0", F.max_pool2d(conv(w, "conv2_2.0", feat2).relu(), 2)).relu()
    if flow is not None:
        extra = noise_residual(w, "noise_encoding0", feat, noisy)
        extra2 = noise_residual(w, "noise_encoding1", feat2, noisy)
        feat = move(feat, resized(flow, feat)) + extra
        feat2 = move(feat2, resized(flow, feat2)) + extra2
    x = conv(w, "redconv.0", feat).relu()
    for block in range(8):
        x = residual(w, f"cnn.{block}", x)
    x = conv(w, "up.2", transposed(w, "up.0", x).relu()).relu()
    x = transposed(w, "up2.0", torch.cat((feat2, x), 1)).relu()
    return conv(w, "torgb", conv(w, "up2.2", x).relu())


def noise_residual(w: Weights, key: str, maps: Tensor, noisy: bool) -> Tensor:
    """What the generator adds to moved features."""
    mean = maps.mean((2, 3), keepdim=True)
    x = torch.randn_like(maps) + mean if noisy else torch.zeros_like(maps) + mean
    return conv(w, f"{key}.2", conv(w, f"{key}.0", x).relu()).relu()


def style_distance(w: Weights, made: Tensor, target: Tensor) -> Tensor:
    """Squared Gram distance through VGG19, summed over r21, r31, r41."""
    total = made.new_zeros(())
    for one, other in zip(vgg19_features(w, made), vgg19_features(w, target), strict=True):
        total = total + F.mse_loss(gram(one), gram(other).detach())
    return total


def vgg19_features(w: Weights, x: Tensor) -> list[Tensor]:
    """[N, 3, 64, 64] to r21, r31, r41."""
    found = []
    for name in (*STEM, "conv3_2", "conv3_3", "conv3_4", "conv4_1"):
        if name in {"conv2_1", "conv3_1", "conv4_1"}:
            x = F.max_pool2d(x, 2)
        x = conv(w, f"{name}.0", x).relu()
        if name in {"conv2_1", "conv3_1", "conv4_1"}:
            found.append(x)
    return found


def gram(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, C]."""
    n, c, h, w = x.shape
    rows = x.reshape(n, c, h * w)
    return torch.bmm(rows, rows.transpose(1, 2)) / (h * w)


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Mean SSIM of [N, C, H, W]."""
    channels = one.shape[1]
    place = torch.arange(11, device=one.device) - 5.0
    line = torch.exp(-(place**2) / (2 * 1.5**2))
    line = line / line.sum()
    window = (line[:, None] * line[None, :]).expand(channels, 1, 11, 11).contiguous()

    def local(x: Tensor) -> Tensor:
        return F.conv2d(x, window, padding=5, groups=channels)

    mean_one, mean_other = local(one), local(other)
    variance_one = local(one * one) - mean_one**2
    variance_other = local(other * other) - mean_other**2
    covariance = local(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + 0.01**2) * (2 * covariance + 0.03**2)
    below = (mean_one**2 + mean_other**2 + 0.01**2) * (variance_one + variance_other + 0.03**2)
    return (above / below).mean()


def asymmetry(x: Tensor) -> Tensor:
    """Mean absolute difference of left halves and mirrored right halves."""
    left, right = x.chunk(2, 3)
    return (left - right.flip(3)).abs().mean()


def move(maps: Tensor, flow: Tensor) -> Tensor:
    """Maps [N, C, H, W] read at each place plus flow [N, 2, H, W]."""
    height, width = maps.shape[2:]
    y = torch.linspace(-1, 1, height, device=maps.device).reshape(1, 1, height, 1).expand(1, 1, height, width)
    x = torch.linspace(-1, 1, width, device=maps.device).reshape(1, 1, 1, width).expand(1, 1, height, width)
    grid = (torch.cat((x, y), 1) + flow).permute(0, 2, 3, 1)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def move_image(image: Tensor, flow: Tensor) -> Tensor:
    """An image [N, 3, 64, 64] moved along a flow [N, 2, 16, 16]."""
    return move(image, resized(flow, image).clamp(-1, 1))


def resized(flow: Tensor, like: Tensor) -> Tensor:
    """The flow at the resolution of other maps."""
    return F.interpolate(flow, like.shape[2:], mode="bilinear", align_corners=True)


def swap(x: Tensor) -> Tensor:
    """Exchange the two halves of a batch."""
    first, second = x.chunk(2)
    return torch.cat((second, first))


def attention(w: Weights, key: str, x: Tensor) -> Tensor:
    """The authors' attention over channels."""
    n, c, height, width = x.shape
    g = conv(w, f"{key}.g", x).reshape(n, c, height * width).softmax(1)
    theta = conv(w, f"{key}.theta", x).reshape(n, c, height * width).softmax(2)
    phi = conv(w, f"{key}.phi", x).reshape(n, c, height * width)
    return leaky(x + torch.bmm(torch.bmm(phi, theta.transpose(1, 2)), g).reshape(n, c, height, width))


def residual(w: Weights, key: str, x: Tensor) -> Tensor:
    """Two convolutions and a shortcut."""
    return leaky(conv(w, f"{key}.conv2", leaky(conv(w, f"{key}.conv1", x))) + x)


def conv(w: Weights, key: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution padded so that it keeps the size at stride 1."""
    weight = w[f"{key}.weight"]
    return F.conv2d(x, weight, w[f"{key}.bias"], stride, weight.shape[-1] // 2)


def transposed(w: Weights, key: str, x: Tensor) -> Tensor:
    """A transposed convolution that doubles the size."""
    return F.conv_transpose2d(x, w[f"{key}.weight"], w[f"{key}.bias"], 2, 1)


def doubled(x: Tensor) -> Tensor:
    """Twice the size, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def leaky(x: Tensor) -> Tensor:
    """LeakyReLU, slope 0.1."""
    return F.leaky_relu(x, 0.1)
