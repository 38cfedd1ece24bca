"""How often screening refuses one person's faces, and how often it lets bad buffers pass.

    python benchmarks/adaptation_screens.py STORE... [--faces 500,100]

STORE are crop stores, as `psm-adapt general` makes them (`real` and `held_out`). Good buffers are all windows, half
overlapping, of every recording; bad ones are made of them. For a person whom the shipped weights were made from, the
likeness is measured again without him or her, so that everybody is new. Prints JSON: error rates, the closest calls,
and seconds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from common import report, say
from screening_weights import FEWEST, TESTED_ON

from psm_adapt.adaptation import screening
from psm_adapt.adaptation.likeness import Measure, looks, measure_of, shapes
from psm_adapt.adaptation.screening import Screening, ScreenSettings, screen
from psm_adapt.adaptation.screening_weights import screening_weights
from psm_adapt.adaptation.snapshot import Snapshot
from psm_adapt.data.store import CropStore, Recording, open_store

HIDDEN = {"wolfgang": (57, 228), "asl-bird": (12, 43)}
"""Frames with a hand before the face, first and one past the last, seen by eye."""
SAME = {"pyfeat-single": "pyfeat-leaving"}
"""People who are one and the same."""
SHARES = (0.5, 0.3, 0.15)
"""Of the second person in a mixture."""
FEWEST_SHOWN = 50

Faces = tuple[CropStore, Recording]


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("stores", type=Path, nargs="+")
    given.add_argument("--faces", default="500,100")
    chosen = given.parse_args()
    torch.set_num_threads(1)
    stores = [open_store(path) for path in chosen.stores]
    likeness = Likeness(stores)
    figures = {count: measured(stores, likeness, int(count)) for count in chosen.faces.split(",")}
    figures["hidden"] = hidden_found(stores, likeness)
    report("screening", {"stores": [store.store_id for store in stores]}, figures)


class Likeness:
    """The likeness measure without some people."""

    def __init__(self, stores: list[CropStore]) -> None:
        self._seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._made: dict[tuple[str, ...], Measure] = {}
        for store, one in recordings(stores[:1]):
            if one.person != TESTED_ON and one.count >= FEWEST:
                rows = np.arange(one.start, one.start + one.count, 3)
                parts = (shapes(store.landmarks[rows]), looks(store.read(rows)))
                self._seen.setdefault(one.person, []).append(parts)

    def without(self, *people: str) -> Measure:
        key = tuple(sorted({SAME.get(name, name) for name in people} & self._seen.keys()))
        if not key:
            return screening_weights()[0]
        if key not in self._made:
            kept = [parts for person, some in self._seen.items() if person not in key for parts in some]
            self._made[key] = measure_of([shape for shape, _ in kept], [look for _, look in kept])
        return self._made[key]

    def screen(self, snapshot: Snapshot, *people: str) -> Screening:
        weights = self.without(*people), screening_weights()[1]
        with patch.object(screening, "screening_weights", lambda: weights):
            return screen(snapshot, ScreenSettings(fewest=FEWEST_SHOWN))


def measured(stores: list[CropStore], likeness: Likeness, count: int) -> dict[str, Any]:
    """Screen windows of `count` faces, and what is made of them."""
    good = list(windows(stores, count))
    people = sorted({one.person for _, one, _ in good} - SAME.keys())
    say(f"{len(good)} windows of {count} faces")
    began = time.process_time()
    found = [
        (one.name, int(rows[0]) - one.start, likeness.screen(faces(store, rows), one.person))
        for store, one, rows in good
    ]
    seconds = (time.process_time() - began) / len(good)
    refused = [f"{name} from {start}: {result.refused}" for name, start, result in found if result.refused]
    apart = [result.figures["screen_groups_apart"] for *_, result in found if "screen_groups_apart" in result.figures]
    return {
        "one_person": {
            "windows": len(good),
            "refused": refused,
            "people_refused": sorted({line.split("/")[0] for line in refused}),
            "apart_largest": [round(value, 1) for value in sorted(apart)[-4:]],
            **{
                f"{name}_{kind}_lowest": round(min(result.figures[f"screen_{name}_{kind}"] for *_, result in found), 3)
                for name in ("pictures", "landmarks")
                for kind in ("motion", "steadiness")
            },
            "seconds_each": round(seconds, 2),
        },
        "two_people": mixtures(good, people, likeness, count),
        **{name: shares(made) for name, made in spoilt(good, likeness).items()},
    }


def mixtures(good: list[Any], people: list[str], likeness: Likeness, count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    missed, apart, right = [], [], []
    for pair in itertools.combinations(people, 2):
        for share in SHARES:
            first, second = (some_of(good, person, rng) for person in rng.permutation(pair))
            parts = take(first, round(count * (1 - share)), rng), take(second, round(count * share), rng)
            if min(map(len, parts)) < 0.11 * sum(map(len, parts)):
                continue
            mixed = joined(*parts, alternating=bool(rng.random() < 0.5))
            result = likeness.screen(mixed, *pair)
            apart.append(result.figures.get("screen_groups_apart", float("nan")))
            right.append(f"and {len(parts[1])} of" in result.refused or f" {len(parts[1])} faces" in result.refused)
            if not result.refused:
                missed.append(f"{pair[0]} and {pair[1]}, {len(parts[0])} and {len(parts[1])}: {apart[-1]:.0f}")
    lowest = [round(value, 1) for value in sorted(apart)[:4]]
    return {
        "made": len(apart),
        "missed": missed,
        "apart_lowest": lowest,
        "apart_median": round(float(np.nanmedian(apart))),
    } | {"counts_right": round(float(np.mean(right)), 3)}


def spoilt(good: list[Any], likeness: Likeness) -> dict[str, list[Screening]]:
    """Make one face under noise, noise, and one person under two lights, of a window of each recording."""
    rng = np.random.default_rng(0)
    made: dict[str, list[Screening]] = {
        "still_under_noise": [],
        "still": [],
        "noise": [],
        "two_lights": [],
        "glare": [],
    }
    for store, one, rows in {one.name: (store, one, rows) for store, one, rows in good}.values():
        whole = faces(store, rows)
        still = whole.only(np.full(len(rows), len(rows) // 2))
        made["still"].append(likeness.screen(still, one.person))
        for deviation in (3, 10):
            shaken = np.clip(still.crops + rng.normal(0, deviation, still.crops.shape), 0, 255).astype(np.uint8)
            made["still_under_noise"].append(likeness.screen(with_crops(still, shaken), one.person))
        noise = rng.integers(0, 256, whole.crops.shape, np.uint8)
        made["noise"].append(likeness.screen(with_crops(whole, noise), one.person))
        for name, strength in (("two_lights", 0.3), ("glare", 0.6)):
            made[name].append(likeness.screen(with_crops(whole, half_lit(whole.crops, strength, rng)), one.person))
    return made


def shares(found: list[Screening]) -> dict[str, Any]:
    apart = [result.figures.get("screen_groups_apart", 0.0) for result in found]
    reasons = sorted({result.refused.split(":")[0] for result in found if result.refused})
    refused = sum(bool(result.refused) for result in found)
    return {"made": len(found), "refused": refused, "as": reasons, "apart_largest": round(max(apart), 1)}


def half_lit(crops: Any, strength: float, rng: np.random.Generator) -> Any:
    """Light the second half of the faces from a side, in another colour and with another contrast."""
    turn, (down, across) = rng.uniform(0, 2 * np.pi), np.mgrid[-1:1:128j, -1:1:128j]
    light = 1 + strength * (np.cos(turn) * across + np.sin(turn) * down)[..., None]
    lit = 255 * (crops[len(crops) // 2 :] / 255.0) ** (1 + strength * rng.uniform(-0.5, 0.5)) * light
    lit = lit * (1 + strength * rng.uniform(-0.4, 0.4, 3))
    return np.concatenate([crops[: len(crops) // 2], np.clip(lit, 0, 255).astype(np.uint8)])


def hidden_found(stores: list[CropStore], likeness: Likeness) -> dict[str, Any]:
    """Which faces are dropped as hidden: of those with a hand, and of all others, by person."""
    figures: dict[str, Any] = {}
    for store, one in recordings(stores):
        if one.count < FEWEST_SHOWN:
            continue
        first, last = HIDDEN.get(one.person, (0, 0))
        rows = np.arange(one.start, one.start + one.count)
        result = likeness.screen(faces(store, rows), one.person)
        dropped = np.ones(one.count, bool)
        dropped[result.rows] = False
        if result.refused:
            figures[one.name] = result.refused
        elif last or dropped.any():
            is_hidden = (np.arange(one.count) >= first) & (np.arange(one.count) < last)
            found = {"hidden": int(is_hidden.sum()), "of_them_dropped": int(dropped[is_hidden].sum())}
            figures[one.name] = found | {
                "clear": int((~is_hidden).sum()),
                "clear_dropped": int(dropped[~is_hidden].sum()),
            }
    return figures


def recordings(stores: list[CropStore]) -> Iterator[Faces]:
    return ((store, one) for store in stores for one in store.recordings)


def windows(stores: list[CropStore], count: int) -> Iterator[tuple[CropStore, Recording, Any]]:
    for store, one in recordings(stores):
        width = min(count, one.count)
        for start in range(0, one.count - width + 1, max(1, width // 2)):
            if width >= FEWEST_SHOWN:
                yield store, one, np.arange(one.start + start, one.start + start + width)


def some_of(good: list[Any], person: str, rng: np.random.Generator) -> Snapshot:
    own = [faces(store, rows) for store, one, rows in good if one.person == person]
    snapshot = own[rng.integers(len(own))]
    first, last = HIDDEN.get(person, (0, 0))
    return snapshot.only(np.flatnonzero((snapshot.frame_index < first) | (snapshot.frame_index >= last)))


def take(snapshot: Snapshot, count: int, rng: np.random.Generator) -> Snapshot:
    count = min(count, len(snapshot))
    start = int(rng.integers(len(snapshot) - count + 1))
    return snapshot.only(np.arange(start, start + count))


def joined(first: Snapshot, second: Snapshot, *, alternating: bool) -> Snapshot:
    """One after the other, or in turns of a few seconds, under one face id."""
    names = Snapshot.__dataclass_fields__
    arrays = {name: [getattr(part, name) for part in (first, second)] for name in names if name != "to_crop"}
    whole = Snapshot(**{name: np.concatenate(parts) for name, parts in arrays.items()})
    if not alternating:
        return whole
    turn = np.concatenate([np.arange(len(first)) / len(first), np.arange(len(second)) / len(second)])
    return whole.only(np.argsort(np.floor(turn * 5), kind="stable"))


def faces(store: CropStore, rows: Any) -> Snapshot:
    count = len(rows)
    return Snapshot(
        crops=store.read(rows),
        landmarks=store.landmarks[rows],
        frame_index=store.frame_index[rows],
        face_id=np.zeros(count, np.int32),
        t_capture=store.t[rows],
        t_source=store.t[rows],
        confidence=store.confidence[rows],
    )


def with_crops(snapshot: Snapshot, crops: Any) -> Snapshot:
    arrays = {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}
    return Snapshot(**arrays | {"crops": crops})


if __name__ == "__main__":
    main()
