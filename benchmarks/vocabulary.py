"""Expression vocabularies: how long they take next to the plainest way, and whether neighbours make sense.

    python benchmarks/vocabulary.py [--points N] [--minutes N] [--skip neighbours]

k-means at 100 and 1,000 centres, next to a bare call of scikit-learn; GloVe, next to the obvious loop over pairs; one
face assigned live, next to all differences written out; and the demo's scripted expressions: how often the five nearest
neighbours of a token show what it shows itself, next to chance. Prints JSON; nothing asserts a time.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from common import at_most, percentiles, report, say
from numpy.typing import NDArray

from psm_adapt.vocabulary.glove import GloveSettings, train_vectors
from psm_adapt.vocabulary.kmeans import fit_centres, nearest
from psm_adapt.vocabulary.making import FitSettings, make_vocabulary, train
from psm_adapt.vocabulary.neighbours import BY
from psm_adapt.vocabulary.tokens import tokens_of
from psm_adapt.vocabulary.tracks import RATE_HZ, Track
from psm_stream.align import open_aligner
from psm_stream.clusters.units import UNIT_NAMES, measure
from psm_stream.clusters.vocabulary import Vocabulary
from psm_stream.clusters.vocabulary_method import VocabularyMethod, arrays_of
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.sources import SOURCES
from psm_stream.sources.demo_script import NEUTRAL
from psm_stream.values import Faces, Frame, Stamp

SHOWS_FROM = 0.3
"""A scripted expression weaker than this counts as neutral."""
NEAREST = 5
SECTIONS = ("kmeans", "glove", "assign", "neighbours")


def main() -> None:
    parser = argparse.ArgumentParser(description="measure expression vocabularies; prints JSON")
    parser.add_argument("--points", type=int, default=50_000, help="faces that are clustered")
    parser.add_argument("--minutes", type=float, default=8.0, help="of the demo that neighbours are judged on")
    parser.add_argument("--skip", nargs="*", default=[], choices=SECTIONS)
    given = parser.parse_args()
    sections: dict[str, Callable[[], Any]] = {
        "kmeans": lambda: [kmeans(given.points, len(UNIT_NAMES), size) for size in (100, 1000)],
        "glove": lambda: {"beside the obvious loop": beside_the_loop(), "at size": [at_size(d) for d in (25, 200)]},
        "assign": lambda: [assigned(size, d) for size, d in ((1000, 15), (1000, 256), (10_000, 15), (10_000, 256))],
        "neighbours": lambda: neighbours(given.minutes),
    }
    figures = {}
    for name, measure_it in sections.items():
        if name not in given.skip:
            say(name)
            figures[name] = measure_it()
    report("vocabulary", vars(given), figures)


def kmeans(count: int, dimension: int, size: int) -> dict[str, Any]:
    """Ours, and a bare call with the same start; both in one thread."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    places = 2 * rng.normal(size=(3 * size, dimension))
    points = (places[rng.integers(0, 3 * size, count)] + rng.normal(size=(count, dimension))).astype(np.float32)
    # the process's own time: each is one thread, and what else the machine does is not their fault
    ours, ours_s = timed(lambda: fit_centres(points, size, seed=0), time.process_time)
    with threadpool_limits(1):
        model = KMeans(size, n_init=1, random_state=0)
        bare, bare_s = timed(lambda: model.fit(points).cluster_centers_, time.process_time)
    return {
        "points": count,
        "centres": size,
        "dimensions": dimension,
        "ours_s": round(ours_s, 2),
        "bare_s": round(bare_s, 2),
        "ours_of_bare": at_most(1.25, ours_s / bare_s),
        "mean_square_ours": round(float(np.square(nearest(points, ours)[1]).mean()), 4),
        "mean_square_bare": round(float(np.square(nearest(points, bare)[1]).mean()), 4),
        "empty_ours": int((np.bincount(nearest(points, ours)[0], minlength=size) == 0).sum()),
    }


def some_counts(size: int) -> NDArray[np.float64]:
    """Counts as of a real stream: few pairs are common, most never meet."""
    rng = np.random.default_rng(0)
    common = 1 / np.arange(1, size + 1)
    half = np.triu(rng.poisson(2000 * np.outer(common, common) / common.max()))
    return (half + half.T).astype(np.float64)


def beside_the_loop(size: int = 60, iterations: int = 10) -> dict[str, Any]:
    counts, settings = some_counts(size), GloveSettings(iterations=iterations)
    (vectors, losses), ours_s = timed(lambda: train_vectors(counts, settings))
    (slow_vectors, slow_losses), slow_s = timed(lambda: the_loop(counts, settings))
    return {
        "tokens": size,
        "iterations": iterations,
        "ours_s": round(ours_s, 4),
        "loop_s": round(slow_s, 3),
        "times_faster": round(slow_s / ours_s, 1),
        "largest_difference_of_vectors": at_most(1e-9, float(np.abs(vectors - slow_vectors).max()), 15),
        "largest_difference_of_losses": at_most(1e-6, float(np.abs(losses - slow_losses).max()), 12),
    }


def at_size(dimensions: int, size: int = 1000) -> dict[str, Any]:
    (_, losses), seconds = timed(lambda: train_vectors(some_counts(size), GloveSettings(dimensions, iterations=100)))
    return {
        "tokens": size,
        "dimensions": dimensions,
        "ms_each_iteration": round(10 * seconds, 1),
        "loss": [round(float(losses[0]), 1), round(float(losses[-1]), 3)],
    }


def the_loop(counts: NDArray[np.float64], settings: GloveSettings) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The paper's eq. 8 and AdaGrad, pair by pair."""
    size, d = len(counts), settings.dimensions
    rng = np.random.default_rng(settings.seed)
    sides = [
        np.hstack(
            [
                rng.uniform(-1, 1, (size, d)) * math.sqrt(6 / (size + d)),
                rng.uniform(-1, 1, (size, 1)) * math.sqrt(6 / (size + 1)),
            ]
        )
        for _ in range(2)
    ]
    sums = [np.full((size, d + 1), settings.accumulator) for _ in range(2)]
    losses = np.zeros(settings.iterations)
    for iteration in range(settings.iterations):
        slopes = [np.zeros((size, d + 1)) for _ in range(2)]
        for i in range(size):
            for j in range(size):
                if counts[i, j] == 0:
                    continue
                f = min(1.0, (counts[i, j] / settings.x_max) ** settings.alpha)
                word, context = sides[0][i], sides[1][j]
                error = word[:d].dot(context[:d]) + word[d] + context[d] - math.log(counts[i, j])
                losses[iteration] += 0.5 * f * error**2
                slopes[0][i] += f * error * np.append(context[:d], 1.0)
                slopes[1][j] += f * error * np.append(word[:d], 1.0)
        for n in range(2):
            sums[n] += slopes[n] ** 2
            sides[n] -= settings.rate * slopes[n] / np.sqrt(sums[n])
    return sides[0][:, :d] + sides[1][:, :d], losses


def assigned(size: int, dimension: int, calls: int = 1000) -> dict[str, Any]:
    """One face live, as the pipeline has it."""
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary(
        feature="embedding",
        model_id="0" * 12,
        source="",
        features=(),
        scale=np.ones(dimension, np.float32),
        centres=rng.normal(size=(size, dimension)).astype(np.float32),
        counts=np.ones(size, np.int64),
        limit=1e9,
        min_count=1,
        units=(),
        profiles=np.zeros((size, 0), np.float32),
    )
    fitted = arrays_of(vocabulary)
    assign, prepare_s = timed(lambda: VocabularyMethod().assigner(fitted))
    vectors = rng.normal(size=(calls, dimension)).astype(np.float32)
    plain = [timed(partial(plainly, vocabulary.centres, one)) for one in vectors[:100]]
    ours = [timed(partial(assign, one)) for one in vectors]
    p99 = float(np.percentile([1e3 * seconds for _, seconds in ours], 99))
    return {
        "centres": size,
        "dimensions": dimension,
        "prepare_ms": round(1e3 * prepare_s, 2),
        "ms": percentiles([1e3 * seconds for _, seconds in ours], 3),
        "ms_p99": at_most(1.0, p99),
        "ms_all_differences": percentiles([1e3 * seconds for _, seconds in plain], 3),
        "same_centre": all(one[0][0] == other[0] for one, other in zip(ours, plain, strict=False)),
    }


def plainly(centres: NDArray[np.float32], point: NDArray[np.float32]) -> int:
    return int(np.linalg.norm(centres - point, axis=1).argmin())


def neighbours(minutes: float) -> dict[str, Any]:
    """Share of a token's nearest neighbours that show what it shows, on the demo; by company, and by looks."""
    track, shown = demo(minutes)
    figures: dict[str, Any] = {"faces": len(track), "seconds_of_demo": round(len(track) / RATE_HZ)}
    made = make_vocabulary([track], "landmarks", "", FitSettings(size=40, feature="units")).vocabulary
    tokens = tokens_of(track, made)[1:-1]
    majority, purity = majorities(tokens, shown)
    figures["faces_that_show_what_their_token_does"] = round(purity, 3)
    for window in (3, 10):
        trained = train([track], made, GloveSettings(), lambda *_: None, window).vocabulary
        figures[f"by vectors, window {window}"] = agreement(trained, "vectors", majority)
    figures["by centres"] = agreement(made, "centres", majority)
    return figures


def demo(minutes: float) -> tuple[Track, list[str]]:
    """Faces of the demo, five a second, and what its script shows in each."""
    source = SOURCES["demo"](SourceSettings(kind="demo", fps=RATE_HZ, seed=5), lambda: 0.0)
    source.open()
    aligner = open_aligner(AlignerSettings())
    units, shown = [], []
    for n in range(round(60 * minutes * RATE_HZ)):
        picture = source.read()
        faces = aligner(Frame(Stamp(n, n / RATE_HZ), picture.image))
        if isinstance(faces, Faces):
            name, intensity = picture.label.split()
            units.append(measure(faces.faces[0]))
            shown.append(name if float(intensity) >= SHOWS_FROM else NEUTRAL)
    aligner.close()
    source.close()
    return Track("demo", "demo", np.arange(len(units)) / RATE_HZ, np.array(units)), shown


def majorities(tokens: list[str], shown: list[str]) -> tuple[dict[str, str], float]:
    """What most faces of each token show, and the share of faces that show what most of their token do."""
    seen: dict[str, Counter[str]] = {}
    for token, name in zip(tokens, shown, strict=True):
        seen.setdefault(token, Counter())[name] += 1
    most = {token: counter.most_common(1)[0] for token, counter in seen.items()}
    return {token: name for token, (name, _) in most.items()}, sum(n for _, n in most.values()) / len(tokens)


def agreement(vocabulary: Vocabulary, how: str, majority: dict[str, str]) -> dict[str, dict[str, float]]:
    words = [token for token in majority if token.startswith("c")]
    shares: dict[str, list[tuple[float, float]]] = {}
    for token in words:
        near = [one.token for one in BY[how](vocabulary, token, len(words) + 3) if one.token in words][:NEAREST]
        mine = majority[token]
        agree = float(np.mean([majority[other] == mine for other in near]))
        chance = (sum(majority[other] == mine for other in words) - 1) / (len(words) - 1)
        shares.setdefault(mine, []).append((agree, chance))
    means = {name: np.mean(some, axis=0) for name, some in shares.items()}
    return {
        name: {"agree": round(float(mean[0]), 2), "chance": round(float(mean[1]), 2)} for name, mean in means.items()
    }


def timed(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[Any, float]:
    began = clock()
    value = call()
    return value, clock() - began


if __name__ == "__main__":
    main()
