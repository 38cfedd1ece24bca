"""The task of the six published approaches: faces are rebuilt from another frame's neutral face and their own code.

Source: FaceCycle (Chang, Chen, Chiu 2021) and PSM (Tazi, Berger, Freiwald). The approaches differ in their pairs
(`data.pairs`); transfer is the same training from another start (`start`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

import psm_stream
from psm_adapt.checkpoint import About
from psm_adapt.config import TrainSettings
from psm_adapt.data.augment import Draws, cut, denormalise, draw, jitter, mirror, normalise, plain, shrink
from psm_adapt.data.pairs import PairOptions, Pairs, Rows, epoch_pairs, tracks
from psm_adapt.data.store import CropStore
from psm_adapt.losses import LossWeights
from psm_adapt.networks.noise import NO_NOISE, seeded_noise
from psm_adapt.objective import cycle_terms, draw_cycle
from psm_adapt.train.schedules import neutral_weight
from psm_adapt.train.seeds import mixed_seed
from psm_adapt.train.start import Start
from psm_adapt.train.task import Group, Preview, Probe
from psm_adapt.train.world import World
from psm_stream.errors import TrainingError

PROBED = 16
"""Images that are looked at for collapse."""
SHOWN = 8
"""Images in a preview: four pairs."""


class FaceSource(Protocol):
    """Whose faces are trained on, and where they are."""

    @property
    def people(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def source_id(self) -> str:
        """What tells these faces from others, for the checkpoint."""

    def tracks(self, settings: TrainSettings) -> list[Rows]:
        """Return the rows to train on, divided so that no pair crosses from one track to another."""

    def images(self, rows: Rows, device: torch.device) -> Tensor:
        """Return the crops of some rows, in their order: uint8 [n, S, S, 3] RGB on the device."""


@dataclass(frozen=True, slots=True)
class Faces:
    """Some people of a crop store."""

    store: CropStore
    people: tuple[str, ...]

    @property
    def source_id(self) -> str:
        """The store's."""
        return self.store.store_id

    def tracks(self, settings: TrainSettings) -> list[Rows]:
        """Their rows, divided so that no pair crosses from one track to another."""
        return tracks(self.store, self.store.rows(self.people), settings.pairs.within)

    def images(self, rows: Rows, device: torch.device) -> Tensor:
        """Read crops from the store."""
        crops = self.store.images(rows)
        return crops.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else crops


@dataclass(frozen=True, slots=True)
class CycleBatch:
    """A process's share of one step's pairs."""

    a: Tensor
    """[N, 3, 64, 64], ImageNet-normalised RGB, on the device."""
    b: Tensor
    weights: LossWeights
    seed: int
    """Of the generator's noise in this step and process."""

    def share(self, number: int, count: int) -> CycleBatch:
        """Return one of `count` equal shares of the pairs, 0-based, with noise of its own."""
        a, b = self.a.chunk(count)[number], self.b.chunk(count)[number]
        return CycleBatch(a, b, self.weights, mixed_seed(self.seed, number))


class CycleTask:
    """Train encoder, flow decoder and generator with the published objective."""

    def __init__(self, start: Start, faces: FaceSource, settings: TrainSettings, world: World) -> None:
        self.module = self.networks = start.networks
        self.images_per_step = 2 * settings.run.batch_size
        self._start, self._faces, self._settings, self._world = start, faces, settings, world
        self._share = world.share(settings.run.batch_size)
        self._tracks = faces.tracks(settings)
        self._perceptual = start.perceptual.to(world.device) if start.perceptual is not None else None
        first = self._pairs(1)
        if len(first) < settings.run.batch_size:
            raise TrainingError(
                f"{', '.join(faces.people[:3])}: {len(first)} pairs are fewer than one step takes; "
                f"set run.batch_size to {len(first)} or less, or give more frames"
            )
        self._shown = np.concatenate([first.a[: SHOWN // 2], first.b[: SHOWN // 2]])

    def groups(self) -> Sequence[Group]:
        """Everything under one rate, as published."""
        return [Group("networks", list(self.networks.trained()))]

    def steps(self, epoch: int) -> int:
        """Whole batches only, as the authors drop the last one."""
        return len(self._pairs(epoch)) // self._settings.run.batch_size

    def batches(self, epoch: int, first: int) -> Iterator[CycleBatch]:
        """Give this process's share of each batch."""
        settings = self._settings
        pairs, size = self._pairs(epoch), settings.run.batch_size
        neutral = neutral_weight(settings.loss.neutral_weight, epoch, settings.run.epochs)
        chosen = settings.loss
        weights = LossWeights(chosen.pixel, chosen.perceptual, chosen.symmetry, chosen.ssim, neutral)
        for step in range(first, len(pairs) // size):
            here = slice(step * size, (step + 1) * size)
            batch = Pairs(pairs.a[here], pairs.b[here], pairs.is_flip[here])
            a, b = self._images(batch, mixed_seed(settings.run.seed, epoch, step))
            yield CycleBatch(a, b, weights, mixed_seed(settings.run.seed, epoch, step, 1 + self._world.rank))

    def loss(self, batch: CycleBatch) -> dict[str, Tensor]:
        """Return pixel, perceptual, ssim, symmetry and total."""
        noise = seeded_noise(batch.seed, batch.a.device) if self._settings.loss.noise else NO_NOISE
        return cycle_terms(
            self.networks, self._perceptual, batch.a, batch.b, weights=batch.weights, noise=noise
        ).named()

    def probe(self) -> Probe:
        """Look at images that are spread over all frames; only a few are drawn, as drawing is what takes long."""
        rows = np.concatenate(self._tracks)
        images = self._plain(rows[np.linspace(0, len(rows) - 1, min(PROBED, len(rows))).astype(np.int64)])
        codes = self.networks.encoder(images)
        few = images[:: max(1, len(images) // 4)]
        return Probe(codes, self.networks.flow_decoder(codes), self.networks.generator(few))

    def preview(self) -> Preview:
        """Show the first pairs: input, neutral face, input warped to neutral, and rebuilt from the other's neutral."""
        images = self._plain(self._shown)
        cycle = draw_cycle(self.networks, images)
        columns = {
            "input": images,
            "neutral": cycle.neutral,
            "warped": cycle.direct_forward,
            "reconstruction": cycle.rebuilt,
        }
        return Preview({name: denormalise(shown.float()) for name, shown in columns.items()})

    def about(self) -> About:
        """Say what a checkpoint is."""
        people = self._faces.people
        frames = sum(map(len, self._tracks))
        return About(
            design=self.networks.design,
            stem=self._start.stem,
            perceptual=self._start.perceived,
            licence=self._settings.licence,
            created_by=f"psm-adapt train, psm-stream {psm_stream.__version__}",
            note=f"{self._settings.approach} on {frames} frames of {len(people)} people",
            person=people[0] if len(people) == 1 else None,
            parent=self._start.parent,
            training={"store": self._faces.source_id, "people": list(people), "frames": frames},
        )

    def _pairs(self, epoch: int) -> Pairs:
        chosen = self._settings.pairs
        options = PairOptions(chosen.redraw, chosen.per_track, chosen.flips, chosen.seed)
        return epoch_pairs(self._settings.pairing, self._tracks, epoch, options)

    def _images(self, pairs: Pairs, seed: int) -> tuple[Tensor, Tensor]:
        """Augment this process's share of a global batch.

        Every process draws for the whole batch, so that the images do not depend on how many processes there are.
        """
        size, share = len(pairs), self._share
        mine = np.arange(self._world.rank * share, (self._world.rank + 1) * share)
        drawn = draw(2 * size, torch.Generator().manual_seed(seed))
        draws = _some(drawn, torch.from_numpy(np.concatenate([mine, size + mine])))
        crops = self._crops(np.concatenate([pairs.a[mine], pairs.b[mine]]))
        a, b = normalise(jitter(cut(shrink(crops), draws), draws)).chunk(2)
        is_flip = torch.from_numpy(pairs.is_flip[mine]).to(a.device)[:, None, None, None]
        return a, torch.where(is_flip, mirror(a), b)

    def _plain(self, rows: Rows) -> Tensor:
        return plain(self._crops(rows))

    def _crops(self, rows: Rows) -> Tensor:
        return self._faces.images(rows, self._world.device)


def _some(draws: Draws, chosen: Tensor) -> Draws:
    return Draws(draws.box[chosen], draws.is_flipped[chosen], draws.order[chosen], draws.factors[chosen])
