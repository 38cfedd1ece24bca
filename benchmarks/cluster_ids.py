"""Whether a cluster's id keeps its meaning: the share of the same faces whose id changes from one fit to the next.

    python benchmarks/cluster_ids.py [--seeds 5] [--minutes 20] [--demo-minutes 6] [--encoder BUNDLE]

Films of five faces a second go through what the stream has: the reservoir, a fit of HDBSCAN each minute, the assigning
of each face by the clustering in force, and the matching of ids. Synthetic films are bouts of 1 to 5 s of six
expressions, each a cloud in 64 dimensions with few wide ones, with transitions between; and with each fit another
encoder: the embedding is rotated, stretched by up to 10 % in each direction, and each face is off by a tenth of its
cloud's width.

    still     nothing else happens
    overlap   two pairs of expressions are so near that their clouds run into each other
    return    one expression is away for a minute, and then for eight
    split     half-way, encoders begin to tell two expressions from each other
    merge     half-way, they cease to
    all       each of these, with twelve expressions

The demo's faces are encoded by the general encoder all the time, or, half-way, by another from then on (`--encoder`:
the bundle of an adaptation; without it, of weights at random, whose embedding has nothing to do with the first).

    changed        of the faces that are in clusters both times, those whose id is another
    with noise     of all faces that were there both times, those whose id is another, noise included
    stable         the same, of expressions that the film leaves alone, once they have an id of their own
    moved          changed, and all that is announced of the two ids is that faces moved: strays of clusters that last
    untold         changed, and no announced change names both ids

Beside ours: HDBSCAN's own numbers, and the ids in random order. Prints JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import at_most, report, say
from numpy.typing import NDArray

from psm_export import facecycle
from psm_export.untrained import draw_weights
from psm_export.write import Description, write_bundle
from psm_stream.align import open_aligner
from psm_stream.bundle import Parity, general_bundle, open_bundle
from psm_stream.clusters.identity import Matching, match
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.reservoir import Reservoir
from psm_stream.config import AlignerSettings, ClustersSettings, SourceSettings
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.record.testing import a_face
from psm_stream.sources.demo import DemoSource, parse_label
from psm_stream.values import AlignedFace, Assignment, Embedding, Faces, Frame, Stamp

RATE_HZ, FIT_S = 5.0, 60.0
DIMENSIONS, WIDE = 64, 4
"""Of synthetic embeddings; of a cloud, so many are wide."""
APART, NEAR = 14.0, 4.5
"""How far expressions are from each other, and those that overlap, in widths of a cloud."""
NOISE = -1
SHOWN = 0.3
"""The demo's face shows an expression from this intensity."""

Vectors = NDArray[np.float32]
Ids = tuple[int, int, int]
"""Of a face: ours, HDBSCAN's own, and one at random."""
View = Callable[[NDArray[np.intp], int], Vectors]
"""What the encoder of fit number `version` makes of faces: [n] -> [n, D]."""


@dataclass(frozen=True)
class Film:
    """Faces in order.

    truth: int [n], the expression of each, -1 for transitions. touched: expressions to which something happens.
    """

    name: str
    truth: NDArray[np.int64]
    view: View
    touched: frozenset[int] = frozenset()
    is_scripted: bool = False
    """Whether expressions are known to be apart, so that clusters of those that are left alone must not change."""


@dataclass
class Tally:
    """Faces that were counted, by what they are counted for."""

    both: int = 0
    stable: int = 0
    all: int = 0
    stable_all: int = 0
    changed: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(description="whether a cluster's id keeps its meaning; prints JSON")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--demo-minutes", type=float, default=6)
    parser.add_argument("--encoder", type=Path)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, script in SCRIPTS.items():
        figures[name] = judged([synthetic(name, script, options.minutes, seed) for seed in range(options.seeds)])
        say(f"{name}: {figures[name]}")
    for film in demo_films(options.demo_minutes, options.encoder):
        figures[film.name] = judged([film])
        say(f"{film.name}: {figures[film.name]}")
    report("ids of clusters", vars(options) | ClustersSettings().model_dump(), figures)


def judged(films: Sequence[Film]) -> dict[str, Any]:
    """Run films of one kind, and say how ids did."""
    tally, kinds, ids, hit = Tally(), Counter[str](), [], []
    for seed, film in enumerate(films):
        run = Run(film, ClustersSettings(seed=seed))
        run.play()
        tally = added(tally, run.tally)
        kinds += run.kinds
        ids.append(run.next_id)
        hit.append(run.held())
    share = {
        name: round(tally.changed[name] / max(tally.both, 1), 5)
        for name in ("ours", "moved", "untold", "raw", "random")
    }
    stable = tally.changed["stable"] / max(tally.stable, 1)
    return {
        "faces in clusters both times": tally.both,
        "changed": share["ours"],
        "changed, HDBSCAN's own": share["raw"],
        "changed, random": share["random"],
        "with noise": round(tally.changed["ours with noise"] / max(tally.all, 1), 5),
        "stable": at_most(0, stable, 5) if films[0].is_scripted else round(stable, 5),
        "stable, with noise": round(tally.changed["stable with noise"] / max(tally.stable_all, 1), 5),
        "stable, HDBSCAN's own": round(tally.changed["stable raw"] / max(tally.stable, 1), 5),
        "moved": share["moved"],
        "untold": at_most(0, share["untold"], 5),
        "told": dict(sorted(kinds.items())),
        "ids ever given": ids,
        "expressions that have in the end the id they had at first": hit,
    }


class Run:
    """One film through reservoir, fits and matching."""

    def __init__(self, film: Film, settings: ClustersSettings) -> None:
        self.film = film
        self.tally = Tally()
        self.kinds: Counter[str] = Counter()
        self.next_id = 0
        self._settings = settings
        self._reservoir = Reservoir(settings)
        self._draw = np.random.default_rng(settings.seed)
        self._matching: Matching | None = None
        self._version = 0
        self._assign: Callable[[Vectors], tuple[int, float, float]] | None = None
        self._last: Mapping[int, Ids] = {}  # by key
        self._ids: list[dict[int, int]] = []  # the id of each expression, after each fit

    def play(self) -> None:
        """Show all faces."""
        for index in range(len(self.film.truth)):
            known = NOISE
            if self._assign is not None and self._matching is not None:
                label = self._assign(self.film.view(np.array([index]), self._version)[0])[0]
                known = NOISE if label < 0 else int(self._matching.ids[label])
            stamp = Stamp(index, index / RATE_HZ)
            self._reservoir.offer(Embedding(face_of(stamp), EMPTY, "", 0, Assignment(known)), all_of_them=True)
            if index >= self._settings.first_faces and index % int(FIT_S * RATE_HZ) == 0:
                self._fit()

    def held(self) -> str:
        """Say how many expressions of the first fit that found all of them have the same id in the last."""
        most = max((len(ids) for ids in self._ids), default=0)
        first = next((ids for ids in self._ids if len(ids) == most), {})
        return f"{sum(self._ids[-1].get(one) == cluster for one, cluster in first.items())} of {len(first)}"

    def _fit(self) -> None:
        self._version += 1
        rows = self._reservoir.rows()
        places = np.array([row.frame_index for row in rows])
        known, before = (np.array([getattr(row, name) for row in rows], np.int32) for name in ("known", "before"))
        fit = METHODS["hdbscan"].fit(self.film.view(places, self._version), self._settings)
        firm = {} if self._matching is None else self._matching.firm
        made = match(known, fit.labels, frozenset(firm), self.next_id, before=before, firm=firm)
        ours = np.append(made.ids, NOISE)[fit.labels]
        mixed = np.append(self._draw.permutation(len(made.ids)), NOISE)[fit.labels]
        keys = [row.key for row in rows]
        new = dict(zip(keys, zip(ours.tolist(), fit.labels.tolist(), mixed.tolist(), strict=True), strict=True))
        told = {frozenset((change.cluster, other)): change.kind for change in made.changes for other in change.others}
        stable = self._own() - self.film.touched
        for place, key in zip(places.tolist(), keys, strict=True):
            if key in self._last:
                self._count(int(self.film.truth[place]) in stable, self._last[key], new[key], told)
        self.kinds.update(change.kind for change in made.changes)
        self._last, self._matching, self.next_id = new, made, made.next_id
        self._assign = METHODS["hdbscan"].assigner(fit.fitted)
        self._ids.append(ids_of(self.film.truth[places], ours))
        self._reservoir.update(keys, vectors=None, model_id="", known=made.known, before=made.before)

    def _own(self) -> frozenset[int]:
        """Return the expressions that have an id of their own."""
        last = self._ids[-1] if self._ids else {}
        shared = Counter(last.values())
        return frozenset(one for one, cluster in last.items() if shared[cluster] == 1)

    def _count(self, is_stable: bool, old: Ids, new: Ids, told: Mapping[frozenset[int], str]) -> None:
        tally = self.tally
        tally.all += 1
        tally.stable_all += is_stable
        tally.changed["ours with noise"] += old[0] != new[0]
        tally.changed["stable with noise"] += is_stable and old[0] != new[0]
        if old[0] < 0 or new[0] < 0:
            return
        tally.both += 1
        tally.stable += is_stable
        for name, which in (("ours", 0), ("raw", 1), ("random", 2)):
            tally.changed[name] += old[which] != new[which]
        tally.changed["stable"] += is_stable and old[0] != new[0]
        tally.changed["stable raw"] += is_stable and old[1] != new[1]
        if old[0] != new[0]:
            kind = told.get(frozenset((old[0], new[0])), "untold")
            tally.changed[kind] += 1


def added(one: Tally, other: Tally) -> Tally:
    return Tally(
        one.both + other.both,
        one.stable + other.stable,
        one.all + other.all,
        one.stable_all + other.stable_all,
        one.changed + other.changed,
    )


def ids_of(truth: NDArray[np.int64], ids: NDArray[np.int32]) -> dict[int, int]:
    """Return the id that most faces of each expression have, where that is more than half."""
    counted = {int(one): Counter(ids[truth == one].tolist()).most_common(1)[0] for one in set(truth.tolist()) - {NOISE}}
    return {one: cluster for one, (cluster, n) in counted.items() if cluster >= 0 and 2 * n > (truth == one).sum()}


EMPTY: Vectors = np.zeros(0, np.float32)
_FACE = a_face(Stamp(0, 0.0))


def face_of(stamp: Stamp) -> AlignedFace:
    """A face that the reservoir takes; nobody looks at it."""
    return AlignedFace(stamp, 0, _FACE.crop, _FACE.landmarks, _FACE.to_crop, 1.0)


@dataclass(frozen=True)
class Script:
    """What happens in a synthetic film, by expression; times are shares of the film."""

    expressions: int = 6
    near: Mapping[int, int] = field(default_factory=dict)
    """Overlaps: an expression, and the one it is near to."""
    away: Mapping[int, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """When an expression is away: starts and ends."""
    split: Mapping[int, int] = field(default_factory=dict)
    """Told apart by the encoders of the second half."""
    merge: Mapping[int, int] = field(default_factory=dict)

    @property
    def touched(self) -> frozenset[int]:
        pairs = {**self.near, **self.split, **self.merge}
        return frozenset({*pairs, *pairs.values(), *self.away})

    def is_there(self, one: int, t: float) -> bool:
        return not any(start <= t < end for start, end in self.away.get(one, ()))

    def centres(self, draw: np.random.Generator) -> NDArray[np.float64]:
        """Return where each expression is, [expressions, DIMENSIONS]."""
        directions = np.linalg.qr(draw.normal(size=(DIMENSIONS, DIMENSIONS)))[0][: self.expressions]
        centres = directions * APART / np.sqrt(2)
        for one, other in self.near.items():
            centres[one] = centres[other] + NEAR / APART * (centres[one] - centres[other])
        return centres

    def untold(self, centres: NDArray[np.float64], is_second_half: bool) -> NDArray[np.float64]:
        """Return what an encoder leaves out of each expression, [expressions, DIMENSIONS]."""
        left_out = np.zeros_like(centres)
        for one, other in (self.merge if is_second_half else self.split).items():
            left_out[one] = centres[one] - centres[other]
        return left_out


AWAY = ((0.3, 0.35), (0.45, 0.85))
SCRIPTS = {
    "still": Script(),
    "overlap": Script(near={1: 0, 3: 2}),
    "return": Script(away={2: AWAY}),
    "split": Script(split={1: 0}),
    "merge": Script(merge={1: 0}),
    "all": Script(12, near={1: 0}, away={2: AWAY, 3: ((0.5, 0.55),)}, split={5: 4}, merge={7: 6}),
}


def synthetic(name: str, script: Script, minutes: float, seed: int) -> Film:
    draw = np.random.default_rng(seed)
    centres = script.centres(draw)
    clouds = [_cloud(draw) for _ in centres]
    count = int(minutes * 60 * RATE_HZ)
    points, truth, here = np.empty((count, DIMENSIONS)), np.full(count, NOISE), 0
    index = 0
    while index < count:
        there = [one for one in range(len(centres)) if one != here and script.is_there(one, index / count)]
        before, here = here, int(draw.choice(there))
        steps, bout = int(draw.integers(1, 4)), int(draw.integers(5, 26))
        for step in range(min(steps + bout, count - index)):
            share = min(1.0, (step + 1) / (steps + 1))
            middle = (1 - share) * centres[before] + share * centres[here]
            points[index] = middle + clouds[here] @ draw.normal(size=DIMENSIONS)
            truth[index] = here if share == 1 else NOISE
            index += 1
    left_out = [np.vstack([script.untold(centres, half), np.zeros(DIMENSIONS)])[truth] for half in (False, True)]
    halves = [(points - each).astype(np.float32) for each in left_out]
    return Film(name, truth, _encoders(halves, minutes * 60 / FIT_S / 2, seed), script.touched, True)


def _cloud(draw: np.random.Generator) -> NDArray[np.float64]:
    """Return a map [D, D] from noise to a cloud that is wide in few directions."""
    scales = np.where(np.arange(DIMENSIONS) < WIDE, 1.0, 0.2)
    return np.linalg.qr(draw.normal(size=(DIMENSIONS, DIMENSIONS)))[0] * scales


def _encoders(halves: Sequence[Vectors], half: float, seed: int) -> View:
    """Each version rotates, stretches and perturbs anew; those after `half` see the second of `halves`."""

    def view(places: NDArray[np.intp], version: int) -> Vectors:
        draw = np.random.default_rng([seed, version])
        turned = np.linalg.qr(draw.normal(size=(DIMENSIONS, DIMENSIONS)))[0] * draw.uniform(0.9, 1.1, DIMENSIONS)
        off = np.stack([np.random.default_rng([seed, version, place]).normal(size=DIMENSIONS) for place in places])
        return ((halves[version > half][places] + 0.1 * off) @ turned).astype(np.float32)

    return view


def demo_films(minutes: float, bundle: Path | None) -> Iterator[Film]:
    """The demo, by one encoder and by two."""
    say(f"demo: {minutes:g} minutes")
    faces, truth = demo_faces(int(minutes * 60 * RATE_HZ))
    one = encoded(open_encoder(open_bundle(general_bundle())), faces)
    yield Film("demo", truth, lambda places, _: one[places])
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as folder:
        other = encoded(open_encoder(open_bundle(bundle or random_bundle(Path(folder)))), faces)
    swap = len(faces) / RATE_HZ / FIT_S / 2
    yield Film("demo, another encoder half-way", truth, lambda places, version: (one, other)[version > swap][places])


def demo_faces(count: int) -> tuple[list[AlignedFace], NDArray[np.int64]]:
    source = DemoSource(SourceSettings(fps=RATE_HZ), lambda: 0.0)
    aligner = open_aligner(AlignerSettings())
    source.open()
    faces, names = [], []
    for index in range(count):
        picture = source.read()
        sighting = aligner(Frame(Stamp(index, index / RATE_HZ, picture.t_source), picture.image))
        if isinstance(sighting, Faces):
            shown = parse_label(picture.label)
            faces.append(sighting.faces[0])
            names.append(shown.name if shown.intensity >= SHOWN else "neutral")
    source.close()
    aligner.close()
    return faces, np.unique(names, return_inverse=True)[1]


def encoded(encoder: Encoder, faces: Sequence[AlignedFace]) -> Vectors:
    return np.stack([encoder.encode(face.crop) for face in faces])


def random_bundle(folder: Path) -> Path:
    """The network of the general encoder with weights at random."""
    about = Description("random", "cluster_ids", "FaceCycle", "inside", "fp32", False, "MIT", "a benchmark", {})
    exact = Parity(reference="itself", crops=0, max_abs=0.0, mean_abs=0.0, cosine=1.0, tolerance=1e-4)
    write_bundle(folder, facecycle.build_model(draw_weights(seed=7)), about, exact)
    return folder


if __name__ == "__main__":
    main()
