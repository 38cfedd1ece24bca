"""The general model's training as a Task of the training loop: which faces a step sees, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import psm_stream
from psm_adapt.checkpoint import About
from psm_adapt.data.augment import augment_pairs, denormalise, plain
from psm_adapt.general.faces import FacePool
from psm_adapt.general.lesson import Lesson
from psm_adapt.general.ranking import FRAMES, as_sequences, temporal_ranking
from psm_adapt.general.settings import GeneralSettings
from psm_adapt.general.variety import Strengths, vary
from psm_adapt.networks.design import Networks, build_perceptual
from psm_adapt.networks.noise import NO_NOISE
from psm_adapt.objective import cycle_terms, draw_cycle
from psm_adapt.train.seeds import mixed_seed
from psm_adapt.train.task import Group, Preview, Probe
from psm_adapt.train.world import World

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Step:
    """What a step sees. images: [M, 3, 64, 64] normalised. values: the teacher's, [M, K], NaN where unknown.

    a, b: [N, 3, 64, 64] each, pairs for the cycle; empty when it is not asked for.
    """

    images: Tensor
    values: Tensor
    a: Tensor
    b: Tensor


class GeneralTask:
    """Teacher, cycle and temporal ranking over one encoder, by the weights of the settings.

    Args:
        settings: What to ask for. networks: What to train, on the CPU still. pool: The faces. lesson: The teacher's
        values of the pool's rows, in its order. world: This process among those that train together.
    """

    def __init__(
        self, settings: GeneralSettings, networks: Networks, pool: FacePool, lesson: Lesson, world: World
    ) -> None:
        self.settings, self.networks, self.pool, self.lesson, self.world = settings, networks, pool, lesson, world
        self.module: nn.Module = nn.ModuleDict({"networks": networks})
        self.perceptual = build_perceptual(networks.design) if settings.objective.cycle else None
        if self.perceptual is not None:
            self.module.add_module("perceptual", self.perceptual)
        self.images_per_step = 2 * settings.run.batch_size
        self._share = world.share(settings.run.batch_size)
        self._rotation = lesson.rotation.to(world.device)
        self._weights = (lesson.weights * lesson.scale).to(world.device)
        if not settings.objective.encoder_lr:
            networks.encoder.requires_grad_(False)

    def groups(self) -> Sequence[Group]:
        """The encoder, and what the cycle trains besides."""
        wanted = self.settings.objective
        groups = [Group("encoder", list(self.networks.encoder.parameters()), wanted.encoder_lr)]
        if wanted.cycle:
            others = (*self.networks.flow_decoder.parameters(), *self.networks.generator.parameters())
            groups.append(Group("decoders", list(others)))
        return groups

    def steps(self, epoch: int) -> int:
        """As many as the settings say, in each epoch."""
        del epoch
        return self.settings.draw.steps_per_epoch

    def batches(self, epoch: int, first: int) -> Iterator[Step]:
        """Draw the steps of an epoch; each depends on the seed, the epoch and its own number alone."""
        for number in range(first, self.steps(epoch)):
            yield self._draw(mixed_seed(self.settings.run.seed, epoch, number, self.world.rank))

    def loss(self, batch: Step) -> dict[str, Tensor]:
        """Return what the settings ask for, and their weighted sum."""
        wanted, terms = self.settings.objective, {}
        total = batch.images.new_zeros(())
        if wanted.teacher or wanted.ranking:
            codes = self._straight(batch.images).float()
        if wanted.teacher:
            terms["teacher"], terms["leftover"] = self._taught(codes, batch.values)
            total = total + wanted.teacher * (terms["teacher"] + wanted.leftover * terms["leftover"])
        if wanted.ranking:
            terms["ranking"] = temporal_ranking(as_sequences(codes.tanh()))
            total = total + wanted.ranking * terms["ranking"]
        if wanted.cycle:
            terms["cycle"] = cycle_terms(self.networks, self.perceptual, batch.a, batch.b, noise=NO_NOISE).total
            total = total + wanted.cycle * terms["cycle"]
        return terms | {"total": total}

    def probe(self) -> Probe:
        """Codes, flow and images of a fixed batch."""
        images = self._fixed(32)
        if not self.settings.objective.cycle:
            return Probe(codes=self.networks.encoder(images))
        cycle = draw_cycle(self.networks, images)
        return Probe(codes=cycle.codes, flow=cycle.flow, output=cycle.rebuilt)

    def preview(self) -> Preview:
        """Inputs, and what the cycle makes of them once it is asked for."""
        images = self._fixed(2 * _SHOWN)
        shown = {"input": images}
        if self.settings.objective.cycle:
            cycle = draw_cycle(self.networks, images)
            shown |= {"neutral": cycle.neutral, "warped": cycle.direct_forward, "reconstruction": cycle.rebuilt}
        return Preview({name: denormalise(faces[:_SHOWN].float()) for name, faces in shown.items()})

    def about(self) -> About:
        """What a checkpoint of these networks is."""
        design = self.networks.design
        return About(
            design=design,
            stem="learned" if design.stem == "learned" else "VGG19",
            perceptual=design.perceptual,
            licence=self.settings.licence,
            created_by=f"psm-adapt {psm_stream.__version__}",
            training={"stores": [store.store_id for store in self.pool.stores]},
        )

    def _draw(self, seed: int) -> Step:
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        wanted, device = self.settings.objective, self.world.device
        count = 2 * self._share
        rows = self.pool.sequences(rng, max(1, count // FRAMES)) if wanted.ranking else self.pool.draw(rng, count)
        images, values = self._seen(rows, generator)
        a = b = images[:0]
        if wanted.cycle:
            firsts = self.pool.draw(rng, self._share)
            crops = [self.pool.crops(some).to(device) for some in (firsts, self.pool.partners(rng, firsts))]
            a, b = augment_pairs(crops[0], crops[1], torch.rand(self._share, generator=generator) < 0.5, generator)
        return Step(images, values, a, b)

    def _seen(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:  # type: ignore[type-arg]
        device = self.world.device
        if not (self.settings.objective.teacher or self.settings.objective.ranking):
            return torch.empty(0, 3, 64, 64, device=device), torch.empty(0, device=device)
        strengths = Strengths() if self.settings.draw.is_varied else Strengths.mild()
        images, is_flipped = vary(self.pool.crops(rows).to(device), generator, strengths)
        chosen = torch.from_numpy(rows)
        values = torch.where(is_flipped[:, None], self.lesson.mirrored[chosen], self.lesson.values[chosen])
        return images, values.to(device)

    def _straight(self, images: Tensor) -> Tensor:
        """Codes before their tanh, where the teacher's values are read by a straight line."""
        encoder = self.networks.encoder
        codes: Tensor = encoder.expresscode(encoder.features(images).flatten(1))
        return codes

    def _taught(self, codes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """How far what the codes hold is from the teacher's values, and how much else they hold."""
        inside = codes @ self._rotation
        known = values.isfinite()
        apart = functional.smooth_l1_loss(inside / self._weights, values.nan_to_num(), reduction="none")
        weight = self._weights.square() * known
        besides = (codes - inside @ self._rotation.T).square().sum(1).mean() / self._weights.square().sum()
        return (apart * weight).sum() / weight.sum(), besides

    def _fixed(self, count: int) -> Tensor:
        """Faces for probe and preview; the second half shows the first half's people again, as the cycle has it."""
        rng = np.random.default_rng(self.settings.run.seed)
        rows = self.pool.draw(rng, count // 2)
        rows = np.concatenate([rows, self.pool.partners(rng, rows)])
        return plain(self.pool.crops(rows).to(self.world.device))
