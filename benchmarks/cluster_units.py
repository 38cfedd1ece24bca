"""How well the formulae that make action units of landmarks follow blendshapes, and what else is known of a face.

    python benchmarks/cluster_units.py STORE ...

STORE are crop stores of real people with landmarks and blendshapes (`psm-adapt crops --landmarker`). Pearson's
correlation is taken within each recording in which the blendshape moves, averaged over a person's recordings; the
figures are the median and the least over people, and the blendshape of another unit that the formula follows most.
Besides: the demo's true expressions, and the IMM stills, on which 20 other people look neutral and happy.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import report, say, shared_file
from imm import stills
from numpy.typing import NDArray

from psm_adapt.data.store import CropStore, open_store
from psm_stream.align import open_aligner
from psm_stream.clusters.units import UNIT_NAMES, UNITS, from_blendshapes, from_landmarks, measure
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.sources.demo import EXPRESSIONS, DemoSource, parse_label
from psm_stream.values import Faces, Frame, Image, Stamp

FEWEST = 240
"""Frames that a recording must have."""
MOVES = 0.015
"""Standard deviation of a blendshape that moves."""
HARDLY_MOVES = 0.002
"""The same for blendshapes that hardly ever do."""
HARDLY = ("AU5", "AU15")
PEOPLE = 3
"""A blendshape must move in so many people."""
DEMO_FPS, DEMO_FRAMES = 10, 600

Series = NDArray[np.float64]


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("stores", type=Path, nargs="+", metavar="STORE")
    stores = [open_store(folder) for folder in given.parse_args().stores]
    recordings = [one for store in stores for one in both_sources(store)]
    figures = {
        "blendshapes": of_blendshapes(recordings),
        "demo": of_the_demo(),
        "imm": of_the_stills(shared_file("imm/imm_01_20.zip")),
    }
    report("cluster units", {"stores": [store.store_id for store in stores], "recordings": len(recordings)}, figures)


def both_sources(store: CropStore) -> list[tuple[str, Series, Series]]:
    """Measure each long recording from blendshapes and from landmarks: person, [n, U] and [n, U]."""
    measured = []
    for one in store.recordings:
        rows = np.arange(one.start, one.start + one.count)
        assert store.blendshapes is not None, "the store needs blendshapes"
        rows = rows[np.isfinite(store.blendshapes[rows]).all(axis=1)]
        if len(rows) >= FEWEST:
            shapes = np.array([from_blendshapes(store.blendshapes[row]) for row in rows], np.float64)
            points = np.array([from_landmarks(store.landmarks[row], store.crops.shape[1]) for row in rows], np.float64)
            measured.append((one.person, shapes, points))
            say(f"{one.name}: {len(rows)} frames")
    return measured


def of_blendshapes(recordings: list[tuple[str, Series, Series]]) -> dict[str, Any]:
    """Each formula against each unit's blendshapes."""
    figures = {}
    for number, unit in enumerate(UNITS):
        if not unit.formula:
            continue
        own = list(_by_person(recordings, number, number).values())
        other = {
            name: float(np.median(list(people.values())))
            for place, name in enumerate(UNIT_NAMES)
            if place != number and len(people := _by_person(recordings, number, place)) >= PEOPLE
        }
        nearest = max(other, key=lambda name: other[name])
        figures[unit.name] = {
            "people": len(own),
            "median": round(float(np.median(own)), 2) if own else None,
            "least": round(min(own), 2) if own else None,
            "follows_besides": {nearest: round(other[nearest], 2)},
        }
    return figures


def _by_person(recordings: list[tuple[str, Series, Series]], formula: int, shape: int) -> Mapping[str, float]:
    """Correlation of a formula with a unit's blendshapes, mean over each person's recordings."""
    least = HARDLY_MOVES if UNIT_NAMES[shape] in HARDLY else MOVES
    found: dict[str, list[float]] = {}
    for person, shapes, points in recordings:
        if shapes[:, shape].std() > least:
            found.setdefault(person, []).append(float(np.corrcoef(shapes[:, shape], points[:, formula])[0, 1]))
    return {person: float(np.mean(values)) for person, values in found.items()}


def of_the_demo() -> dict[str, Any]:
    """Correlation of each formula with the true intensity of each expression."""
    source, aligner = DemoSource(SourceSettings(fps=DEMO_FPS), lambda: 0.0), open_aligner(AlignerSettings())
    source.open()
    truth, units = [], []
    for index in range(DEMO_FRAMES):
        picture = source.read()
        sighting = aligner(Frame(Stamp(index, index / DEMO_FPS), picture.image))
        if isinstance(sighting, Faces):
            shown = parse_label(picture.label)
            truth.append([shown.intensity * (shown.name == name) for name in EXPRESSIONS])
            units.append(measure(sighting.faces[0]))
    source.close()
    aligner.close()
    known = [number for number, unit in enumerate(UNITS) if unit.formula]
    both = np.corrcoef(np.hstack([np.array(units)[:, known], np.array(truth)]).T)[: len(known), len(known) :]
    return {
        UNIT_NAMES[number]: {name: round(float(r), 2) for name, r in zip(EXPRESSIONS, row, strict=True)}
        for number, row in zip(known, both, strict=True)
    }


def of_the_stills(archive: Path | None) -> dict[str, Any]:
    """In how many of the people a unit is higher on the happy face than on the neutral one, and by how much."""
    if archive is None:
        return {}
    faces: dict[str, dict[str, NDArray[np.float32]]] = {}
    for still in stills(archive):
        if still.kind in {"neutral", "happy"} and (units := _units_of(still.image)) is not None:
            faces.setdefault(still.name[:2], {})[still.kind] = units
    pairs = [one["happy"] - one["neutral"] for one in faces.values() if len(one) == 2]
    rise = {
        unit.name: {
            "higher": int(sum(pair[n] > 0 for pair in pairs)),
            "mean": round(float(np.mean([p[n] for p in pairs])), 3),
        }
        for n, unit in enumerate(UNITS)
        if unit.formula
    }
    return {"people": len(pairs), "happy_less_neutral": rise}


def _units_of(image: Image) -> NDArray[np.float32] | None:
    aligner = open_aligner(AlignerSettings())
    sighting = aligner(Frame(Stamp(0, 0.0), image))
    aligner.close()
    return measure(sighting.faces[0]) if isinstance(sighting, Faces) else None


if __name__ == "__main__":
    main()
