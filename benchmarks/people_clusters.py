"""Is cluster 3 the same next week? Which faces must be kept of each cluster for that.

Two sessions of one face: the demo by two scripts, and where the shared videos are (PSM_DATA) one man's pairs of videos
and the two halves of GRID speakers. The first is fitted; its clustering is kept, and a few faces of each cluster. The
second begins with the clustering, which is the truth here, and is then fitted with its own faces and the kept ones
(`fitted again`). If another encoder runs, there is no clustering to begin with but what the kept faces alone give
(`of kept faces alone`). Kept are what psm-stream keeps (`kept`), half as many, the densest half as many (those whose
tenth neighbour is nearest), and every face there was.

    same      share of the second's faces that have the id they would have had; faces that would be noise do not count
    other     share that have another id; the rest is noise
    found     clusters of the first that are there again

    python benchmarks/people_clusters.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from common import report, say, shared_file
from numpy.typing import NDArray
from videos import pictures

from psm_stream.align import Aligner, open_aligner
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.clusters.fit import Fit
from psm_stream.clusters.identity import FIRM, match
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.reservoir import MIN_CONFIDENCE, Row
from psm_stream.config import AlignerSettings, ClustersSettings, SourceSettings
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.people_clusters import MOST, prototypes
from psm_stream.sources.demo import DemoSource
from psm_stream.values import Faces, Frame, Image, Stamp

SETTINGS = ClustersSettings()
HDBSCAN = METHODS["hdbscan"]
FACES = 900
DRAWS = 5
REFIT_FACES = 500
PAIRS = {
    "one man, the same day": ("people/audun_cap12_400x300.mp4", "people/audun_cap13_400x300.mp4"),
    "one man, another day": ("people/audun_ht_capture4_320x240.mp4", "people/audun_ht_capture5_320x240.mp4"),
}
HALVES = {f"GRID {name}": f"grid/grid_{name}.mp4" for name in ("s1", "s2", "s5", "s31")}

Vectors: TypeAlias = NDArray[np.float32]
Pick: TypeAlias = Callable[[Vectors], Vectors]


def main() -> int:
    encoder = open_encoder(open_bundle(general_bundle()), "cpu")
    figures = {}
    for name, (first, second) in sessions(encoder):
        say(f"{name}: {len(first)} and {len(second)} faces")
        figures[name] = compared(first, second)
    report("People's clusters in the next session", {"faces kept of a cluster": MOST, "draws": DRAWS}, figures)
    return 0


def sessions(encoder: Encoder) -> Iterator[tuple[str, tuple[Vectors, Vectors]]]:
    """Yield a name, and the codes of two sessions."""
    for one, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        yield f"demo, scripts {one} and {other}", (codes(demo(one), encoder), codes(demo(other), encoder))
    for name, files in PAIRS.items():
        places = [place for file in files if (place := shared_file(file)) is not None]
        if len(places) == 2:
            yield name, (of_video(places[0], encoder), of_video(places[1], encoder))
    for name, file in HALVES.items():
        if (place := shared_file(file)) is not None:
            both = of_video(place, encoder)
            yield name, (both[: len(both) // 2], both[len(both) // 2 :])


def demo(seed: int) -> Iterator[Image]:
    """Draw the demo's face, five times a second of its script."""
    source = DemoSource(SourceSettings(seed=seed, fps=5.0), lambda: 0.0)
    source.open()
    for _ in range(FACES):
        yield source.read().image


def of_video(place: Path, encoder: Encoder) -> Vectors:
    """Codes of every second frame."""
    return codes(pictures(place), encoder)[::2]


def codes(images: Iterator[Image], encoder: Encoder) -> Vectors:
    """Return the codes of the faces that clusters would be made of."""
    aligner: Aligner = open_aligner(AlignerSettings())
    seen = [aligner(Frame(Stamp(index, index / 25), image)) for index, image in enumerate(images)]
    aligner.close()
    faces = [one.faces[0] for one in seen if isinstance(one, Faces)]
    return np.stack([encoder.encode(face.crop) for face in faces if face.confidence >= MIN_CONFIDENCE])


def compared(first: Vectors, second: Vectors) -> Mapping[str, Any]:
    """Measure each way to keep faces on one pair of sessions."""
    fitted = HDBSCAN.fit(first, SETTINGS)
    count = int(fitted.labels.max(initial=-1)) + 1
    truth = assigned(fitted, np.arange(count), second)
    ways: dict[str, list[Pick]] = {
        "kept": [kept],
        "half as many": [at_random(seed) for seed in range(DRAWS)],
        "half as many, the densest": [densest],
        "every face": [lambda vectors: vectors],
    }
    figures: dict[str, Any] = {"clusters": count, "faces": [len(first), len(second)]}
    for name, picks in ways.items():
        tries = [next_session(fitted, first, second, truth, pick) for pick in picks]
        figures[name] = {figure: round(float(np.mean([one[figure] for one in tries])), 3) for figure in tries[0]}
    return figures


def kept(vectors: Vectors) -> Vectors:
    """What psm-stream keeps."""
    crop = np.zeros((1, 1, 3), np.uint8)
    rows = [Row(key, 0, key, 0.0, crop, vector, "0" * 12, 0) for key, vector in enumerate(vectors)]
    return np.stack([row.vector for row in prototypes(rows, 1, {}).rows])


def at_random(seed: int) -> Pick:
    """Half as many, drawn."""
    return lambda vectors: vectors[np.random.default_rng(seed).permutation(len(vectors))[: MOST // 2]]


def densest(vectors: Vectors) -> Vectors:
    """Half as many, from where the cluster is densest."""
    distances = np.sort([np.square(vectors - vector).sum(axis=1) for vector in vectors], axis=1)
    return vectors[np.argsort(distances[:, min(10, len(vectors) - 1)], kind="stable")[: MOST // 2]]


def next_session(
    fitted: Fit, first: Vectors, second: Vectors, truth: NDArray[np.int32], pick: Pick
) -> dict[str, float]:
    """Begin a session with what is kept of clusters, and fit once more with its own faces."""
    count = int(fitted.labels.max()) + 1
    picked = [pick(first[fitted.labels == label]) for label in range(count)]
    vectors = np.vstack(picked)
    known = np.repeat(np.arange(count, dtype=np.int32), [len(some) for some in picked])
    firm = dict.fromkeys(range(count), FIRM)
    begun = HDBSCAN.fit(vectors, SETTINGS)
    matching = match(known, begun.labels, frozenset(firm), count, firm=firm)
    alone = assigned(begun, matching.ids, second)
    own = second[:REFIT_FACES]
    again = HDBSCAN.fit(np.vstack([vectors, own]), SETTINGS)
    has_been = np.concatenate([known, truth[:REFIT_FACES]])
    after = match(has_been, again.labels, frozenset(firm), count, firm=firm)
    refitted = np.append(after.ids, -1)[again.labels][len(vectors) :]
    return {
        "found": len(matching.alive & set(range(count))),
        **{f"{what}, of kept faces alone": share for what, share in agreement(alone, truth).items()},
        **{f"{what}, fitted again": share for what, share in agreement(refitted, truth[:REFIT_FACES]).items()},
    }


def assigned(fitted: Fit, ids: NDArray[np.int32] | NDArray[np.int64], vectors: Vectors) -> NDArray[np.int32]:
    """Return the id of each vector, -1 for noise."""
    assigner, known = HDBSCAN.assigner(fitted.fitted), np.append(ids, -1)
    return np.array([known[assigner(vector)[0]] for vector in vectors], np.int32)


def agreement(found: NDArray[np.int32], truth: NDArray[np.int32]) -> dict[str, float]:
    """Share of faces with the id that they would have had, and with another."""
    counts = truth >= 0
    return {
        "same": float(np.mean(found[counts] == truth[counts])),
        "other": float(np.mean((found[counts] != truth[counts]) & (found[counts] >= 0))),
    }


if __name__ == "__main__":
    sys.exit(main())
