"""Make the weights that screening uses: how one person's faces scatter, and the network that sees hands.

    python benchmarks/screening_weights.py REAL MADE --out adapt/psm_adapt/adaptation/screening.safetensors

REAL and MADE are the crop stores of real and of synthetic people that `psm-adapt general` makes. People named by
--without are left out; asl-bird, whose real hands the network is tested on, always is. Prints JSON.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import report, say
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from psm_adapt.adaptation.likeness import Measure, looks, measure_of, shapes
from psm_adapt.adaptation.occlusion import OcclusionNetwork, prepared
from psm_adapt.adaptation.screening_weights import save_weights
from psm_adapt.data.store import CropStore, open_store

TESTED_ON = "asl-bird"
FEWEST = 60
"""Frames of a recording that scatter is measured on."""
REAL_EACH, MADE_EACH = 220, 2
"""Frames of a recording that hands are drawn on."""
ROUNDS, EPOCHS, BATCH = 4, 10, 64
LEAST_HIDDEN = 0.06
"""Share of the face that a drawn hand must cover."""
SIDE = 128
Image = NDArray[np.float32]


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("real", type=Path)
    given.add_argument("made", type=Path)
    given.add_argument("--out", type=Path, required=True)
    given.add_argument("--without", default="", help="names of people between commas")
    chosen = given.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    left_out = {TESTED_ON, *filter(None, chosen.without.split(","))}
    real, made = open_store(chosen.real), open_store(chosen.made)
    measure = measure_likeness(real, left_out)
    network, loss = train_network(real, made, left_out)
    save_weights(chosen.out, measure, network)
    figures = {"loss": round(loss, 4), "bytes": chosen.out.stat().st_size, "seconds": round(time.monotonic() - began)}
    report("screening weights", {"real": real.store_id, "made": made.store_id, "without": sorted(left_out)}, figures)


def measure_likeness(store: CropStore, left_out: set[str]) -> Measure:
    """Measure how the faces of one recording scatter."""
    chosen = [one for one in store.recordings if one.person not in left_out and one.count >= FEWEST]
    rows = [np.arange(one.start, one.start + one.count, 3) for one in chosen]
    return measure_of([shapes(store.landmarks[some]) for some in rows], [looks(store.read(some)) for some in rows])


def train_network(real: CropStore, made: CropStore, left_out: set[str]) -> tuple[OcclusionNetwork, float]:
    """Train on faces of which half have a hand drawn over them. Returns the network and its last mean loss."""
    rng = np.random.default_rng(0)
    faces = np.concatenate([spread_over(real, left_out, REAL_EACH), spread_over(made, left_out, MADE_EACH)])
    shown, hidden = [], []
    for _ in range(ROUNDS):
        for face in faces:
            varied, has_hand = vary(face, rng), bool(rng.random() < 0.5)
            if has_hand:
                varied, cover = draw_hand(varied, rng)
                if cover[30:115, 24:104].mean() < LEAST_HIDDEN:
                    continue
            shown.append(varied)
            hidden.append(has_hand)
    images = torch.cat([prepared(torch.from_numpy(np.stack(shown[n : n + 512]))) for n in range(0, len(shown), 512)])
    labels = torch.tensor(hidden, dtype=torch.float32)
    say(f"{len(images)} faces, {labels.mean():.0%} with a hand")
    return fit_network(images, labels)


def fit_network(images: torch.Tensor, labels: torch.Tensor) -> tuple[OcclusionNetwork, float]:
    torch.manual_seed(0)
    network, steps, mean = OcclusionNetwork(), len(images) // BATCH, 0.0
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=EPOCHS * steps)
    for epoch in range(EPOCHS):
        order, total = torch.randperm(len(images)), 0.0
        for some in order[: steps * BATCH].reshape(steps, BATCH):
            shift = tuple(int(step) for step in torch.randint(-1, 2, (2,)))
            loss = binary_cross_entropy_with_logits(network(images[some].roll(shift, (2, 3))), labels[some])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            total += loss.item()
        mean = total / steps
        say(f"epoch {epoch + 1}: {mean:.4f}")
    return network.eval(), mean


def spread_over(store: CropStore, left_out: set[str], each: int) -> NDArray[np.uint8]:
    rows = [
        np.linspace(one.start, one.start + one.count - 1, min(each, one.count)).astype(np.int64)
        for one in store.recordings
        if one.person not in left_out
    ]
    return store.read(np.concatenate(rows))


def vary(face: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror, tint, blur and light a face from a side. face: [128, 128, 3]."""
    image = (face[:, ::-1] if rng.random() < 0.5 else face).astype(np.float32)
    image = image * rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3) + rng.uniform(-15, 15)
    if rng.random() < 0.4:
        side = int(rng.integers(40, 100))
        image = cv2.resize(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
    if rng.random() < 0.4:
        turn, (down, across) = rng.uniform(0, 2 * np.pi), np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
        image = image * (1 + rng.uniform(0, 0.5) * (np.cos(turn) * across + np.sin(turn) * down))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_hand(face: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], Image]:
    """Draw fingers, or one time in eight a plain thing, over a face. Returns it, and where, 0..1 [128, 128]."""
    cheeks = np.concatenate([face[60:84, 26:42].reshape(-1, 3), face[60:84, 86:102].reshape(-1, 3)])
    skin = np.median(cheeks, axis=0) * rng.uniform(0.75, 1.25) * rng.uniform(0.94, 1.06, 3)
    places = ((40, 44), (88, 44), (64, 72), (64, 98), (50, 98), (78, 98), (44, 80), (84, 80), (64, 60))
    at = np.array(places[rng.integers(len(places))]) + rng.normal(0, 7, 2)
    root = rng.uniform(0.25, 0.75) if rng.random() < 0.7 else rng.uniform(-0.2, 1.2)  # mostly from below
    drawing = _Drawing(face.astype(np.float32), skin, at, root * np.pi, rng)
    if rng.random() < 0.12:
        drawing.thing()
    else:
        drawing.fingers()
    return drawing.finished()


class _Drawing:
    """A hand on its way. at: where it points, px. root: direction to its root, radians."""

    def __init__(self, image: Image, skin: Any, at: Any, root: float, rng: np.random.Generator) -> None:
        self.image, self.skin, self.at, self.root, self.rng = image, skin, at, root, rng
        self.cover = np.zeros((SIDE, SIDE), np.float32)
        self.light = rng.uniform(-1, 1)
        self.down, self.across = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)

    def thing(self) -> None:
        rng = self.rng
        length, width = rng.uniform(15, 60) + 60 * (rng.random() < 0.5), rng.uniform(10, 40)
        along, beside = self._axes(self.at, self.root)
        inside = ((np.abs(along) < length / 2) & (np.abs(beside) < width / 2)).astype(np.float32)
        self._paint(
            cv2.GaussianBlur(inside, (0, 0), rng.uniform(0.5, 1.5)),
            rng.uniform(10, 245, 3) * (1 + 0.2 * self.light * beside / width)[..., None],
        )

    def fingers(self) -> None:
        rng = self.rng
        count, width, spread = int(rng.integers(1, 5)), rng.uniform(8, 17), rng.uniform(-0.12, 0.2)
        to_root = np.array([np.cos(self.root), np.sin(self.root)])
        sideways = np.array([-to_root[1], to_root[0]])
        for finger in rng.permutation(count) - (count - 1) / 2:
            tip = self.at + sideways * finger * width * rng.uniform(0.85, 1.1) - to_root * rng.normal(0, 6)
            self._finger(tip, self.root + spread * finger, width / 2 * rng.uniform(0.85, 1.1))
        if rng.random() < 0.6:
            self._palm(self.at + to_root * rng.uniform(25, 45), width * max(count, 2) / 2 * rng.uniform(0.9, 1.4))

    def finished(self) -> tuple[NDArray[np.uint8], Image]:
        """Blur it as the camera would, and add its noise."""
        near = cv2.dilate(self.cover, np.ones((5, 5)))[..., None] > 0.5
        image = np.where(near, cv2.GaussianBlur(self.image, (0, 0), self.rng.uniform(0.3, 1.6)), self.image)
        image = image + self.rng.normal(0, self.rng.uniform(0, 3), (SIDE, SIDE, 1)) * (self.cover[..., None] > 0.5)
        return np.clip(image, 0, 255).astype(np.uint8), self.cover

    def _finger(self, tip: Any, root: float, radius: float) -> None:
        rng, (along, beside) = self.rng, self._axes(tip, root)
        away = np.where(along < 0, np.hypot(along, beside), np.abs(beside))
        shade = 1 + rng.uniform(0.05, 0.3) * (np.clip(1 - (away / radius) ** 2, 0, 1) - 0.8)
        shade = shade + 0.125 * self.light * beside / radius
        shade = shade - 0.12 * rng.random() * np.exp(-(((along - rng.uniform(12, 25)) / 2) ** 2))  # a knuckle
        shadow = np.exp(-(((away - radius) / 1.2) ** 2)) * rng.uniform(0, 0.3) * (away > radius)
        self.image = self.image * (1 - shadow[..., None])
        edge = np.clip((radius - away) / rng.uniform(0.8, 2) + 0.5, 0, 1)
        self._paint(edge, self.skin * shade[..., None] * rng.uniform(0.95, 1.05))

    def _palm(self, centre: Any, radius: float) -> None:
        along, beside = self._axes(centre, self.root)
        inside = np.clip((radius - np.hypot(np.minimum(along, 0), beside)) / 3 + 0.5, 0, 1)
        inside = (inside * (along > -radius)).astype(np.float32)
        self._paint(inside, self.skin * (1 + 0.15 * self.light * beside / radius + self.rng.normal(0, 0.05))[..., None])

    def _axes(self, at: Any, direction: float) -> tuple[Image, Image]:
        """Distance from a point along a direction and beside it, px, of every pixel."""
        x, y, cos, sin = self.across - at[0], self.down - at[1], np.cos(direction), np.sin(direction)
        return x * cos + y * sin, y * cos - x * sin

    def _paint(self, where: Image, colour: Any) -> None:
        self.image = self.image * (1 - where[..., None]) + colour * where[..., None]
        self.cover = np.maximum(self.cover, where)


if __name__ == "__main__":
    main()
