"""Clusters: what assigning a face costs, what a fit costs, and how long fits hold up the stream's main thread.

    python benchmarks/clusters_speed.py [--points 500 2000 10000] [--vectors 2000]

Vectors are the demo's, through the shipped encoder, drawn again with noise as large as a quarter of the change between
two frames. Each method assigns new ones; `hdbscan.approximate_predict` does the same beside it, one vector at a time.
Fits run in their process, as in the stream; "in_process_s" is the same fit without one. For a vocabulary the sizes are
its centres. "cpu" is the time that the thread itself ran, which other programs on the machine add less to.

The main thread is a bare loop that wakes every 5 ms and assigns a vector: how late it wakes, and what it takes, with
nothing beside it, with fits in the process one after the other, and with the same fits in a thread of its own process.
Prints JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hdbscan
import numpy as np
from common import at_most, percentiles, report, say
from jitter import follow
from numpy.typing import NDArray
from videos import demo_pictures

from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.clusters.fit import Fit
from psm_stream.clusters.hdbscan_method import HdbscanMethod
from psm_stream.clusters.methods import METHODS
from psm_stream.clusters.process import ClusterProcess
from psm_stream.clusters.reduce import projecting
from psm_stream.clusters.units import UNIT_NAMES
from psm_stream.clusters.vocabulary import Vocabulary, write_vocabulary
from psm_stream.config import ClustersSettings
from psm_stream.encoder import open_encoder

FRAMES = 900
TICK_S = 0.005
LOOP_S = 6.0
FITS = 3
THEIRS = 300
"""Vectors that approximate_predict assigns: it takes milliseconds for each."""


def main() -> None:
    options = parse()
    faces = of_the_demo()
    process = ClusterProcess()
    figures: dict[str, Any] = {"start_s": started(process, faces)}
    for count in options.points:
        vectors, new = drawn(faces, count, 1), drawn(faces, options.vectors, 2)
        figures[f"{count} points"] = {
            name: of_method(name, process, vectors, new) for name in ("hdbscan", "dbscan", "vocabulary")
        }
        figures[f"{count} points"]["main_thread_ms"] = of_main_thread(process, vectors, new)
    process.close()
    report("clusters: assigning and fitting", vars(options) | {"settings": str(settings_for(faces))}, figures)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time clusters; prints JSON")
    parser.add_argument("--points", type=int, nargs="+", default=[500, 2000, 10_000], help="of the fit")
    parser.add_argument("--vectors", type=int, default=2000, help="that are assigned")
    return parser.parse_args()


def of_the_demo() -> NDArray[np.float32]:
    """Vectors of the demo's face, [n, D], 30 a second."""
    encoder = open_encoder(open_bundle(general_bundle()), "cpu", 1)
    pictures = demo_pictures(640, 480)
    faces = follow(next(pictures) for _ in range(FRAMES))
    say(f"the demo: {len(faces)} faces")
    return np.array([encoder.encode(face.crop) for face in faces])


def drawn(faces: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    step = np.abs(np.diff(faces, axis=0)).mean(axis=0) / 4
    return (faces[rng.integers(len(faces), size=count)] + step * rng.normal(size=(count, faces.shape[1]))).astype("f4")


def settings_for(vectors: NDArray[np.float32], vocabulary: Path | None = None) -> ClustersSettings:
    """The defaults; eps so that DBSCAN finds most vectors dense."""
    some = vectors[:500].astype(np.float64)
    distances = np.sort(np.linalg.norm(some[:, None] - some[None], axis=2), axis=1)
    defaults = ClustersSettings()
    eps = round(float(np.median(distances[:, defaults.min_samples])), 3)
    if vocabulary is None:
        return ClustersSettings(eps=eps)
    return ClustersSettings(eps=eps, method="vocabulary", vocabulary=vocabulary)


def started(process: ClusterProcess, faces: NDArray[np.float32]) -> float:
    """Seconds from nothing to the first fit's end."""
    began = time.perf_counter()
    process.fit("hdbscan", faces[:300], settings_for(faces))
    return round(time.perf_counter() - began, 2)


def of_method(
    name: str, process: ClusterProcess, vectors: NDArray[np.float32], new: NDArray[np.float32]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "centres.npz")
        write_vocabulary(file, of_centres(vectors))
        settings = settings_for(vectors, file)
        method, takes = METHODS[name], []
        fits = [timed(takes, lambda: process.fit(name, vectors, settings)) for _ in range(FITS)]
        here: list[float] = []
        made = timed(here, lambda: method.fit(vectors, settings))
    assert all(equal(made, fit) for fit in fits), "two fits differ"
    prepares: list[float] = []
    assign = [timed(prepares, lambda: method.assigner(made.fitted)) for _ in range(FITS)][-1]
    seconds: list[float] = []
    cpu_ms: list[float] = []
    for vector in new:
        before = time.thread_time()
        timed(seconds, lambda vector=vector: assign(vector))
        cpu_ms.append(1e3 * (time.thread_time() - before))
    found = [assign(vector) for vector in new[:THEIRS]]
    say(f"{name}, {len(vectors)} points: p50 {np.median(seconds) * 1e3:.3f} ms, fit {np.median(takes):.2f} s")
    figures: dict[str, Any] = {
        "clusters": int(made.labels.max()) + 1,
        "noise": round(float(np.mean(made.labels < 0)), 3),
        "assign_ms": percentiles([1e3 * one for one in seconds], 3),
        "assign_cpu_ms": percentiles(cpu_ms, 3),
        "assign_p99_ms": at_most(1.0, 1e3 * float(np.percentile(seconds, 99))),
        "prepare_ms": at_most(5.0, 1e3 * float(np.median(prepares))),
        "fit_s": round(float(np.median(takes)), 3),
        "in_process_s": round(here[0], 3),
        "fitted_mb": round(sum(array.nbytes for array in made.fitted.values()) / 1e6, 2),
    }
    if name == "hdbscan":
        figures["approximate_predict"] = theirs(made, settings, new[:THEIRS], found)
    return figures


def theirs(
    made: Fit, settings: ClustersSettings, new: NDArray[np.float32], found: list[tuple[int, float, float]]
) -> dict[str, Any]:
    """The package on the same points; labels, strengths and outlier scores must be equal."""
    clusterer = hdbscan.HDBSCAN(
        min_cluster_size=settings.min_cluster_size,
        min_samples=settings.min_samples,
        approx_min_span_tree=False,
        prediction_data=True,
    ).fit(made.fitted["points"])
    project = projecting(made.fitted["mean"], made.fitted["components"])
    seconds, equal_labels, off = [], 0, 0.0
    for vector, (label, strength, outlier) in zip(new, found, strict=False):
        point = project(vector)[None]
        began = time.perf_counter()
        labels, strengths = hdbscan.approximate_predict(clusterer, point)
        scores = hdbscan.approximate_predict_scores(clusterer, point)
        seconds.append(time.perf_counter() - began)
        equal_labels += int(labels[0] == label)
        off = max(off, abs(strengths[0] - strength), abs(max(0.0, scores[0]) - outlier))
    taken = percentiles([1e3 * one for one in seconds], 3)
    return {"with_scores_ms": taken, "labels_equal": f"{equal_labels}/{len(new)}", "largest_difference": float(off)}


def of_main_thread(process: ClusterProcess, vectors: NDArray[np.float32], new: NDArray[np.float32]) -> dict[str, Any]:
    settings = settings_for(vectors)
    assign = HdbscanMethod().assigner(process.fit("hdbscan", vectors, settings).fitted)
    beside: dict[str, Callable[[], object]] = {
        "alone": lambda: time.sleep(0.1),
        "fits_in_the_process": lambda: process.fit("hdbscan", vectors, settings),
        "fits_in_a_thread": lambda: HdbscanMethod().fit(vectors, settings),
    }
    figures: dict[str, Any] = {}
    for name, work in beside.items():
        with repeated(work) as count:
            late, took = loop(lambda k: assign(new[k % len(new)]))
        figures[name] = {"late": percentiles(late, 3), "assign": percentiles(took, 3), "rounds": count[0]}
        say(f"{len(vectors)} points, {name}: late p99 {figures[name]['late']['p99']} ms, max {max(late):.2f}")
    return figures


def loop(work: Callable[[int], object]) -> tuple[list[float], list[float]]:
    """Wake every TICK_S. Returns ms late, and ms that the work took, for each."""
    late, took = [], []
    due = time.perf_counter()
    for tick in range(int(LOOP_S / TICK_S)):
        due += TICK_S
        time.sleep(max(0.0, due - time.perf_counter()))
        woke = time.perf_counter()
        late.append(1e3 * (woke - due))
        work(tick)
        took.append(1e3 * (time.perf_counter() - woke))
        due = max(due, time.perf_counter() - TICK_S)  # one delay is counted once
    return late, took


@contextmanager
def repeated(work: Callable[[], object]) -> Any:
    """Do something over and over in a thread, and count it."""
    count, is_over = [0], threading.Event()

    def run() -> None:
        while not is_over.is_set():
            work()
            count[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield count
    finally:
        is_over.set()
        thread.join()


def of_centres(vectors: NDArray[np.float32]) -> Vocabulary:
    count = len(vectors)
    return Vocabulary(
        feature="embedding",
        model_id="0" * 12,
        source="",
        features=(),
        scale=np.ones(vectors.shape[1], np.float32),
        centres=vectors,
        counts=np.full(count, 10, np.int64),
        limit=float("inf"),
        min_count=1,
        units=UNIT_NAMES,
        profiles=np.zeros((count, len(UNIT_NAMES)), np.float32),
    )


def timed(seconds: list[float], work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - began)
    return result


def equal(one: Fit, other: Fit) -> bool:
    arrays = zip(one.fitted.values(), other.fitted.values(), strict=True)
    return one.labels.tobytes() == other.labels.tobytes() and all(a.tobytes() == b.tobytes() for a, b in arrays)


if __name__ == "__main__":
    main()
