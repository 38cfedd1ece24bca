"""Time one training step of the expression stage, next to the authors' way of computing it. Prints JSON.

    python benchmarks/training_step.py [--design facecycle|light] [--pairs N] [--rounds N] [--threads N]
                                       [--shares N] [--device cpu|cuda] [--precision bf16|fp32] [--compile] [--graph]

A step is everything from images in memory to updated weights: forward, losses, gradients, Adam. The peer is
`plain_facecycle.authors_step`, float32, with the same weights and images; the two take turns in the same process, so
that a busy machine disturbs both alike. On a CPU, seconds of processor time are given too, which other programs disturb
less. First the two losses are compared, without noise, since the noise of the two is not the same.

On a CPU our step is computed in shares (`psm_adapt.shares`), one per thread unless `--shares` says otherwise.

Weights are random ones, VGG19's too: they change neither the arithmetic nor its duration. `--design light` has no peer.
On CUDA, `--compile` fuses what lies between convolutions, and `--graph` replays forward and backward as one CUDA graph.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from common import at_least, at_most, report, say
from plain_facecycle import PlainModel, authors_step
from torch import Tensor, nn

from psm_adapt.networks import NO_NOISE, Design, Networks, Noise, Vgg19, build_networks, build_perceptual, seeded_noise
from psm_adapt.networks.vgg import STEM, freeze_stem
from psm_adapt.objective import cycle_terms
from psm_adapt.shares import Shares

RATE, BETAS = 5e-5, (0.5, 0.999)
WARM_UP = 2
GOAL_RATIO = 5.0
GOAL_H200_MS = 15.0
GOAL_LIGHT_S = 0.6


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    images = faces(2 * options.pairs).to(device)
    ours = Ours(options, device)
    figures: dict[str, Any] = {"parameters": sum(weight.numel() for weight in ours.networks.parameters())}
    steps: dict[str, Callable[[], Tensor]] = {"ours": ours.stepper(images)}
    if options.design == "facecycle":
        peer = Peer(ours.networks, ours.perceptual)
        say("comparing the losses")
        figures["loss"] = compare(ours, peer, images)
        steps = {"authors": lambda: peer.step(images), **steps}
    times = race(steps, options.rounds, device)
    figures |= {name: taken.figures() for name, taken in times.items()}
    figures |= judge(options, times)
    report("one training step of the expression stage", vars(options) | about(device), figures)


@dataclass
class Taken:
    """What the steps of one candidate took, s: on the clock, and of processor time on a CPU."""

    wall_s: list[float]
    cpu_s: list[float]
    losses: list[float]

    def figures(self) -> dict[str, Any]:
        median = statistics.median
        return {
            "median_s": round(median(self.wall_s), 4),
            "median_cpu_s": round(median(self.cpu_s), 4),
            "all_s": [round(value, 4) for value in self.wall_s],
            "total_loss_by_step": [round(value, 4) for value in self.losses],
        }


class Ours:
    """psm_adapt's step."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.options, self.device = options, device
        torch.manual_seed(0)
        if options.design == "light":
            design = Design(generator="light", stem="learned", perceptual="random", init="he")
            self.networks, perceptual = build_networks(design, 0), build_perceptual(design)
        else:
            self.networks, perceptual = build_networks(Design(stem="learned", perceptual="none", init="he"), 0), Vgg19()
            freeze_stem(self.networks.generator)
            for module in (perceptual, *(getattr(self.networks.generator, name) for name in STEM)):
                module.apply(draw_by_he)
        assert perceptual is not None
        self.perceptual: nn.Module = perceptual
        for module in (self.networks, self.perceptual):
            module.to(device, memory_format=torch.channels_last)
        self.noises = [seeded_noise(number, device) for number in range(options.shares)]
        self.shares = Shares(options.shares) if options.shares > 1 else None
        if options.compile:
            compile_parts(self.networks, self.perceptual)

    def terms(self, images: Tensor, noises: Sequence[Noise]) -> dict[str, Tensor]:
        a, b = (half.chunk(len(noises)) for half in images.chunk(2))

        def share(number: int) -> dict[str, Tensor]:
            return cycle_terms(self.networks, self.perceptual, a[number], b[number], noise=noises[number]).named()

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            return self.shares.mean(share, list(self.networks.trained())) if self.shares else share(0)

    def stepper(self, images: Tensor) -> Callable[[], Tensor]:
        """A function that makes one step and returns its loss."""
        images = images.contiguous(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(list(self.networks.trained()), lr=RATE, betas=BETAS, fused=True)

        def gradients() -> Tensor:
            total = self.terms(images, self.noises)["total"]
            total.backward()
            return total.detach()

        if self.options.graph:
            gradients = captured(gradients, optimiser, self.noises[0])

        def step() -> Tensor:
            if not self.options.graph:
                optimiser.zero_grad()
            total = gradients()
            optimiser.step()
            return total

        return step


def draw_by_he(layer: nn.Module) -> None:
    """Weights that keep features as large as the images, as trained ones do."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight)


class Peer:
    """The authors' step, with copies of the same weights."""

    def __init__(self, networks: Networks, perceptual: nn.Module) -> None:
        self.networks, self.perceptual = copy.deepcopy(networks), copy.deepcopy(perceptual)
        for module in (self.networks, self.perceptual):
            module.to(memory_format=torch.contiguous_format)
        parts = (self.networks.encoder, self.networks.flow_decoder, self.networks.generator, self.perceptual)
        self.model = PlainModel(*(dict(part.named_parameters()) for part in parts))
        self.optimiser = torch.optim.Adam(list(self.networks.trained()), lr=RATE, betas=BETAS)

    def terms(self, images: Tensor, noisy: bool) -> dict[str, Tensor]:
        half = len(images) // 2
        return authors_step(self.model, images[:half], images[half:], noisy).terms

    def step(self, images: Tensor) -> Tensor:
        self.optimiser.zero_grad()
        total = self.terms(images, noisy=True)["total"]
        total.backward()
        self.optimiser.step()
        return total.detach()


def compare(ours: Ours, peer: Peer, images: Tensor) -> dict[str, Any]:
    """The terms of both without noise, and how well their gradients agree."""
    theirs, mine = peer.terms(images, noisy=False), ours.terms(images, [NO_NOISE] * ours.options.shares)
    theirs["total"].backward()
    mine["total"].backward()
    one, other = (torch.cat([grad(weight) for weight in side.networks.trained()]) for side in (ours, peer))
    apart = {name: f"{abs(mine[name].item() / theirs[name].item() - 1):.1e}" for name in theirs}
    for side in (ours, peer):
        side.networks.zero_grad()
    return {
        "authors": {name: round(value.item(), 6) for name, value in theirs.items()},
        "ours": {name: round(value.item(), 6) for name, value in mine.items()},
        "relative_difference": apart,
        "gradient_cosine": round(torch.cosine_similarity(one, other, dim=0).item(), 5),
        "gradient_norm_ratio": round((one.norm() / other.norm()).item(), 5),
    }


def grad(weight: nn.Parameter) -> Tensor:
    assert weight.grad is not None
    return weight.grad.detach().flatten().clone()


def race(steps: dict[str, Callable[[], Tensor]], rounds: int, device: torch.device) -> dict[str, Taken]:
    """Let the candidates take turns."""
    taken = {name: Taken([], [], []) for name in steps}
    for number in range(-WARM_UP, rounds):
        for name, step in steps.items():
            if number < 0 and name == "authors" and number > -WARM_UP and device.type == "cpu":
                continue  # one warm-up is enough for what takes so long
            with stopwatch(device) as seconds:
                loss = step()
            if number >= 0:
                taken[name].wall_s.append(seconds[0])
                taken[name].cpu_s.append(seconds[1])
                taken[name].losses.append(loss.item())
            say(f"{'warm-up' if number < 0 else f'round {number + 1} of {rounds}'}, {name}: {seconds[0]:.4f} s")
    return taken


@contextlib.contextmanager
def stopwatch(device: torch.device) -> Iterator[list[float]]:
    """Gives a list that holds seconds on the clock and seconds of processor time after the block."""
    seconds: list[float] = []
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        yield seconds
        end.record()
        torch.cuda.synchronize()
        seconds += [start.elapsed_time(end) / 1000, 0.0]
        return
    wall, cpu = time.perf_counter(), time.process_time()
    yield seconds
    seconds += [time.perf_counter() - wall, time.process_time() - cpu]


def captured(gradients: Callable[[], Tensor], optimiser: torch.optim.Optimizer, noise: Noise) -> Callable[[], Tensor]:
    """Record one forward and backward as a CUDA graph; the result replays it with fresh noise.

    Source: PyTorch's notes on CUDA graphs, "whole-network capture".
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimiser.zero_grad()
            gradients()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    assert noise.source is not None
    graph.register_generator_state(noise.source)
    optimiser.zero_grad()
    with torch.cuda.graph(graph):
        total = gradients()

    def replay() -> Tensor:
        graph.replay()
        return total.clone()

    return replay


def compile_parts(networks: Networks, perceptual: nn.Module) -> None:
    """Compile what has no random numbers in it."""
    for module in (networks.encoder, networks.flow_decoder, perceptual):
        module.compile()
    generator = networks.generator
    generator.stem, generator.decode = torch.compile(generator.stem), torch.compile(generator.decode)  # type: ignore


def judge(options: argparse.Namespace, times: dict[str, Taken]) -> dict[str, Any]:
    """The figures that have a goal."""
    ours = statistics.median(times["ours"].wall_s)
    if options.design == "light":
        return {"step_s": at_most(GOAL_LIGHT_S, ours)}
    ratios = {"times_faster": at_least(GOAL_RATIO, statistics.median(times["authors"].wall_s) / ours)}
    if options.device == "cuda":
        return ratios | {"step_ms": at_most(GOAL_H200_MS, 1000 * ours)}
    cpu = statistics.median(times["authors"].cpu_s) / statistics.median(times["ours"].cpu_s)
    return ratios | {"times_less_processor_time": at_least(GOAL_RATIO, cpu)}


def faces(count: int) -> Tensor:
    """Smooth random images, [count, 3, 64, 64], about as large as normalised faces."""
    rough = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(rough, (64, 64), mode="bicubic", align_corners=True)


def about(device: torch.device) -> dict[str, Any]:
    """What the figures depend on beside the options."""
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else None
    return {"torch": torch.__version__, "gpu": gpu, "images_per_step": "2 x pairs", "size_px": 64}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time one training step next to the authors' way of computing it.")
    parser.add_argument("--design", choices=("facecycle", "light"), default="facecycle")
    parser.add_argument("--pairs", type=int, default=16, help="pairs of images a step (default 16, as published)")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU (default 2)")
    parser.add_argument("--shares", type=int, help="of our step (default: as many as threads; 1 on CUDA)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of our step (default bf16)")
    parser.add_argument("--compile", action="store_true", help="our step: fuse by torch.compile")
    parser.add_argument("--graph", action="store_true", help="our step: replay a CUDA graph (cuda only)")
    options = parser.parse_args()
    if options.graph and options.device != "cuda":
        parser.error("--graph needs --device cuda")
    options.shares = options.shares or (1 if options.device == "cuda" else options.threads)
    if options.pairs % options.shares:
        parser.error(f"{options.pairs} pairs do not make {options.shares} equal shares")
    return options


if __name__ == "__main__":
    main()
