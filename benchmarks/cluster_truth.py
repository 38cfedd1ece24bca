"""How well clusters agree with what the face does: on the demo, whose expressions are known, and on people.

    python benchmarks/cluster_truth.py [STORE|VIDEO...] [--seeds 0,1] [--minutes 3] [--adapt none|demo|all]
                                       [--settings dimensions=4,...] [--folder DIR]

The demo's truth is its script: an expression of an intensity of .3 or more, else neutral. STORE is a crop store with
blendshapes (`psm-adapt crops --landmarker`); of videos one is made first; without either, it is made of the four people
on whom nothing was ever trained, where there is the shared data (PSM_DATA). Their truth is which of the twelve
action-unit proxies (docs/evaluation.md) are on: each combination that occurs is a class.

The faces go through the live path's own pipeline and clusters, in the frames' own time: clusters are first fitted after
300 faces, then by rule, each frame is assigned once, by the clustering then in force, and ids hold through refits. A
recording is played several times on end: `new` is the first time, when most of what the face does was never seen,
`known` the last, of somebody who was there for two minutes or more. What is judged of both are the frames after the
first 486 (60 % of a shorter recording); those are the snapshot with which `--adapt` adapts the general model, by
`psm-adapt worker` with its gate as it is. Beside `known` stand k-means and DBSCAN that see all of the judged frames at
once before they say what the first is; DBSCAN also with the eps that the truth would choose. Besides: other settings.

`--settings` are the clusters' for all runs that do not say otherwise. `--folder` keeps crops, snapshots and adapted
models, pictures of faces all, and uses them again.

AMI is the adjusted mutual information (Vinh, Epps, Bailey 2010) with noise as one more cluster; `in clusters` is that
of the frames that are no noise. Prints JSON on stdout, and tables and progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from common import installed, report, say, shared_file
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN, KMeans
from sklearn.metrics import adjusted_mutual_info_score

from psm_adapt.data.store import STORE, CropStore, Recording, open_store
from psm_adapt.evaluate.blendshape_labels import proxy_labels
from psm_stream.align import open_aligner
from psm_stream.align.crops import SIZE_PX
from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.clusters.clusters import Clusters
from psm_stream.clusters.fit import Fit
from psm_stream.clusters.process import ClusterProcess
from psm_stream.config import AlignerSettings, ClustersSettings, FacesSettings, SourceSettings
from psm_stream.encoder import Encoder, open_encoder
from psm_stream.faces import RecentFaces
from psm_stream.pipeline import Pipeline
from psm_stream.sources.demo import DemoSource, parse_label
from psm_stream.values import AlignedFace, Embedding, Faces, Frame, Stamp

UNSEEN = ("grid/grid_s1.mp4", "grid/grid_s31.mp4", "grid/grid_s32.mp4", "fixtures/pyfeat_WolfgangLanger_Pexels.mp4")
"""People whom nothing that ships was trained on."""
SNAPSHOT, SHARE = 486, 0.6
SHOWN = 0.3
"""The demo's face shows an expression from this intensity."""
DEMO_FPS = 30.0
KNOWN_S = 120.0
TOLD = ("event", "reason", "frames", "epochs_done", "seconds")
KMEANS = (5, 8, 12)
EPS = tuple(n / 20 for n in range(2, 21))
GENERAL, ADAPTED = "general", "adapted"
DEFAULT, WHOLE = "hdbscan", "hdbscan, all dimensions"
VARIANTS: Mapping[str, dict[str, Any]] = {
    DEFAULT: {},
    WHOLE: {"dimensions": 0},
    "hdbscan, 16 dimensions": {"dimensions": 16},
    "hdbscan, 8 dimensions": {"dimensions": 8},
    "hdbscan, 3 dimensions": {"dimensions": 3},
    "hdbscan, clusters from 30": {"min_cluster_size": 30},
    "hdbscan, min_samples 10": {"min_samples": 10},
    "hdbscan, every 60 s": {"every_s": 60.0},
    "dbscan": {"method": "dbscan"},
    "dbscan, eps 0.2": {"method": "dbscan", "eps": 0.2},
}
"""Runs of the live clusters: the defaults, and what differs from them."""

COLUMNS = {
    "new": "ami_new",
    "noise": "noise_new",
    "known": "ami",
    "noise ": "noise",
    "in them": "ami_in_clusters",
    "clusters": "clusters",
    "ids": "ids",
    "with all": "ami_with_all_dimensions",
    "fit, s": "longest_fit_s",
}

Labels = NDArray[np.int64]


def main() -> None:
    options = parse()
    figures: dict[str, Any] = {"films": {}}
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as passing:
        folder = options.folder or Path(passing)
        films = [demo_film(seed, int(options.minutes * 60 * DEMO_FPS)) for seed in options.seeds]
        films += people_films(options.inputs, folder)
        general = open_encoder(open_bundle(general_bundle()))
        for film in films:
            found = judged(film, film.encoded(general), options.settings)
            figures["films"][film.name] = {"kind": film.kind, "classes": film.classes(), GENERAL: found}
        for film in films if options.adapt != "none" else ():
            if film.kind == "demo" or options.adapt == "all":
                told = adapt(film, folder / film.name.replace("/", "-").replace(" ", "-"))
                figures["films"][film.name]["adaptation"] = {key: told.get(key) for key in TOLD}
                if told["event"] == "done":
                    vectors = film.encoded(open_encoder(open_bundle(Path(told["bundle"]))))
                    figures["films"][film.name][ADAPTED] = judged(film, vectors, options.settings)
    figures["means"] = means(figures["films"])
    say(tables(figures["means"]))
    report("clusters against the truth", vars(options) | ClustersSettings(**options.settings).model_dump(), figures)


@dataclass(frozen=True)
class Film:
    """Somebody's faces in order. truth: int [n], the class of each. kind: demo or people."""

    name: str
    kind: str
    faces: tuple[AlignedFace, ...]
    truth: Labels

    @property
    def first(self) -> int:
        """The first judged face: the snapshot is before it, and the first clusters, too."""
        return max(min(SNAPSHOT, int(SHARE * len(self.faces))), ClustersSettings().first_faces)

    def encoded(self, encoder: Encoder) -> NDArray[np.float32]:
        """Encode each face. Returns [n, D]."""
        say(f"{self.name}: {len(self.faces)} faces by {encoder.model_id}")
        return np.stack([encoder.encode(face.crop) for face in self.faces])

    def classes(self) -> dict[str, Any]:
        """How many judged faces there are, of how many classes, and what the largest class has of them."""
        counts = np.bincount(self.truth[self.first :])
        share = round(float(counts.max() / counts.sum()), 3)
        return {"judged": int(counts.sum()), "classes": int(np.count_nonzero(counts)), "largest": share}


@dataclass
class Recalled:
    """Stands for an encoder that has encoded every face of a film already."""

    of_crop: Mapping[int, NDArray[np.float32]]
    model_id: str = "recalled"
    trained: bool = True
    dimension: int = 256

    def encode(self, crop: Any) -> NDArray[np.float32]:
        """Return the vector of a crop of the film."""
        return self.of_crop[id(crop)]


class Timed(ClusterProcess):
    """The process that fits, with how long each fit took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def fit(self, method: str, vectors: NDArray[np.float32], settings: ClustersSettings) -> Fit:
        """Fit, and note the time."""
        began = time.perf_counter()
        made = super().fit(method, vectors, settings)
        self.seconds.append(time.perf_counter() - began)
        return made


def live(film: Film, vectors: NDArray[np.float32], settings: ClustersSettings) -> tuple[Labels, Labels, dict[str, Any]]:
    """Send a film through the live path's pipeline and clusters, several times on end.

    Returns the ids of the first time and of the last, -1 for noise and before there are clusters; and about the fits.
    """
    encoder: Any = Recalled({id(face.crop): vector for face, vector in zip(film.faces, vectors, strict=True)})
    length_s = film.faces[-1].frame.t_source - film.faces[0].frame.t_source + 1 / DEMO_FPS
    times = 1 + math.ceil(KNOWN_S / length_s)
    process = Timed()
    pipeline, ids = Pipeline(encoder), []
    clusters = Clusters(
        settings,
        process,
        pipeline=pipeline,
        post=lambda _: None,
        order=pipeline.step,
        warn=say,
        is_frozen=lambda: False,
        waits=True,
    )
    shown = (later(face, n * len(film.faces), n * length_s) for n, face in product(range(times), film.faces))
    for face in shown:
        for result in pipeline.step(Faces(face.frame, (face,))):
            if isinstance(result, Embedding):
                ids.append(result.assignment.cluster)
                clusters.see(result)
    clusters.close()
    fits = {"fits": len(process.seconds), "longest_fit_s": round(max(process.seconds[1:], default=np.nan), 3)}
    size = len(film.faces)
    return np.array(ids[:size]), np.array(ids[-size:]), {"ids": clusters.next_id, **fits}


def later(face: AlignedFace, frames: int, seconds: float) -> AlignedFace:
    """Return the face as of a later frame."""
    stamp = face.frame
    moved = replace(stamp, index=stamp.index + frames, t_source=stamp.t_source + seconds)
    return replace(face, frame=replace(moved, t_capture=stamp.t_capture + seconds))


def judged(film: Film, vectors: NDArray[np.float32], base: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about one film and one model."""
    first = film.first
    truth, late = film.truth[first:], vectors[first:].astype(np.float64)
    found: dict[str, Any] = {}
    known: dict[str, Labels] = {}
    for name, changed in VARIANTS.items():
        new, last, about = live(film, vectors, ClustersSettings(**{**base, **changed}))
        known[name] = last[first:]
        of_new = {f"{key}_new": value for key, value in agreement(truth, new[first:]).items()}
        found[name] = agreement(truth, known[name]) | of_new | about
    for name, ids in known.items():
        found[name]["ami_with_all_dimensions"] = ami(known[WHOLE], ids)
    for count in KMEANS:
        labels = KMeans(count, n_init=5, random_state=0).fit_predict(late)
        found[f"k-means, k = {count}, all at once"] = agreement(truth, labels)
    settings = ClustersSettings(**base)
    by_eps = {eps: DBSCAN(eps=eps, min_samples=settings.min_samples).fit_predict(late) for eps in EPS}
    best = max(EPS, key=lambda eps: ami(truth, by_eps[eps]))
    labels = DBSCAN(eps=settings.eps, min_samples=settings.min_samples).fit_predict(late)
    found["dbscan, all at once"] = agreement(truth, labels)
    found["dbscan, all at once, eps by the truth"] = agreement(truth, by_eps[best]) | {"eps": best}
    centred = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    kept = {size: round(float(centred[:size].sum() / centred.sum()), 4) for size in (4, 8, 16, 32)}
    say(f"{film.name}: {DEFAULT} {found[DEFAULT]['ami']}")
    return {"variance_kept": kept, "sorted": found}


def agreement(truth: Labels, labels: Labels) -> dict[str, Any]:
    """How well labels agree with the truth, how much is noise, and how many clusters there are."""
    is_in = labels >= 0
    return {
        "ami": ami(truth, labels),
        "ami_in_clusters": ami(truth[is_in], labels[is_in]) if is_in.any() else None,
        "noise": round(float(1 - is_in.mean()), 4),
        "clusters": len(np.unique(labels[is_in])),
    }


def ami(first: Labels, second: Labels) -> float:
    """Adjusted mutual information."""
    return round(float(adjusted_mutual_info_score(first, second)), 4)


def adapt(film: Film, folder: Path) -> dict[str, Any]:
    """Adapt the general model with the snapshot, as the stream does. Returns the worker's last event."""
    told = folder / "told.json"
    if not told.exists():
        recent = RecentFaces(FacesSettings(capacity=SNAPSHOT), SIZE_PX)
        for face in film.faces[: min(SNAPSHOT, int(SHARE * len(film.faces)))]:
            recent.offer(face)
        snapshot = recent.snapshot(folder / "snapshot.npz").result()
        say(f"{film.name}: adapting")
        place = ("--snapshot", str(snapshot), "--out", str(folder / "adapted"))
        command = [installed("psm-adapt"), "worker", *place, "--base", "general", "--config", "auto"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if not done.stdout.strip():
            raise SystemExit(f"psm-adapt worker said nothing: {done.stderr[-500:]}")
        told.write_text(done.stdout.strip().splitlines()[-1])
    about: dict[str, Any] = json.loads(told.read_text())
    say(f"{film.name}: {about['event']}, {about['reason']}")
    return about


def demo_film(seed: int, frames: int) -> Film:
    """Make the demo's faces, whose classes are neutral and the expressions that show."""
    say(f"demo, seed {seed}: {frames} frames")
    source, aligner = DemoSource(SourceSettings(seed=seed, fps=DEMO_FPS), lambda: 0.0), open_aligner(AlignerSettings())
    source.open()
    faces, names = [], []
    for index in range(frames):
        picture = source.read()
        t = index / DEMO_FPS
        sighting = aligner(Frame(Stamp(index, t, t), picture.image))
        if isinstance(sighting, Faces):
            shown = parse_label(picture.label)
            faces.append(sighting.faces[0])
            names.append(shown.name if shown.intensity >= SHOWN else "neutral")
    source.close()
    aligner.close()
    return Film(f"demo {seed}", "demo", tuple(faces), np.unique(names, return_inverse=True)[1])


def people_films(inputs: Sequence[str], folder: Path) -> list[Film]:
    """Read recordings of people; none where there are no inputs and no shared data."""
    given = [*inputs] or [str(path) for path in map(shared_file, UNSEEN) if path is not None]
    if not given:
        say("no shared face data (PSM_DATA): the demo alone")
        return []
    if not (len(given) == 1 and (Path(given[0]) / STORE).is_file()):
        command = [installed("psm-adapt"), "crops", *given, "--out", str(folder / "store"), "--landmarker"]
        subprocess.run(command, check=True, stdout=sys.stderr)
        given = [str(folder / "store")]
    store = open_store(Path(given[0]))
    if store.blendshapes is None:
        raise SystemExit(f"{store.folder} has no blendshapes; make it with psm-adapt crops --landmarker")
    films = (film_of(store, recording) for recording in store.recordings)
    return [film for film in films if len(film.faces) > film.first + ClustersSettings().min_new_faces]


def film_of(store: CropStore, recording: Recording) -> Film:
    """Take one recording of a store, as the live path would have given it."""
    assert store.blendshapes is not None
    rows = np.arange(recording.start, recording.start + recording.count)
    shapes = np.asarray(store.blendshapes[rows])
    is_known = np.isfinite(shapes).all(axis=1)
    rows, units = rows[is_known], proxy_labels(shapes[is_known])
    to_crop = np.eye(2, 3, dtype=np.float32)  # a store has landmarks in the crop's own pixels
    crops = store.read(rows)
    faces = (
        AlignedFace(
            frame=Stamp(int(store.frame_index[row]), float(store.t[row]), float(store.t[row])),
            face_id=0,
            crop=crop,
            landmarks=np.asarray(store.landmarks[row]),
            to_crop=to_crop,
            confidence=float(store.confidence[row]),
        )
        for row, crop in zip(rows, crops, strict=True)
    )
    return Film(recording.name, "people", tuple(faces), np.unique(units, axis=0, return_inverse=True)[1].ravel())


def means(films: Mapping[str, Any]) -> dict[str, Any]:
    """Average over the films of a kind, for each model; of the general one also over those that were adapted."""
    told: dict[str, Any] = {}
    for kind in ("demo", "people"):
        of_kind = [film for film in films.values() if film["kind"] == kind]
        both = [film for film in of_kind if ADAPTED in film]
        for name, model, some in (
            (f"{kind}, {GENERAL}", GENERAL, of_kind),
            (f"{kind}, {GENERAL}, those adapted", GENERAL, both),
            (f"{kind}, {ADAPTED}", ADAPTED, both),
        ):
            if some:
                told[name] = averaged([film[model]["sorted"] for film in some])
    return told


def averaged(films: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average each figure of each way of sorting."""
    keys = dict.fromkeys(key for film in films for way in film.values() for key in way)
    return {
        name: {key: mean(film[name][key] for film in films) for key in keys if key in films[0][name]}
        | {"each": [film[name]["ami"] for film in films]}
        for name in films[0]
    }


def mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return round(float(np.mean(known)), 3) if known else None


def tables(told: Mapping[str, Any]) -> str:
    """A table for each kind of film and model."""
    lines = []
    for heading, ways in told.items():
        lines += ["", f"{heading:42s}" + "".join(f"{title:>10s}" for title in COLUMNS) + "   known, each"]
        for name, row in ways.items():
            cells = "".join(f"{row.get(key) if row.get(key) is not None else '-':>10}" for key in COLUMNS.values())
            lines.append(f"{name:42s}{cells}   " + " ".join(f"{value:.2f}" for value in row["each"]))
    return "\n".join(lines)


def pairs(text: str) -> dict[str, str]:
    return dict(part.split("=") for part in text.split(","))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Judge clusters by what the face really does; prints JSON.")
    parser.add_argument("inputs", nargs="*", metavar="STORE|VIDEO", help="people; default: those held out")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1])
    parser.add_argument("--minutes", type=float, default=3.0, help="of the demo (default 3)")
    parser.add_argument("--adapt", choices=("none", "demo", "all"), default="none", help="whose model is adapted, too")
    parser.add_argument("--settings", type=pairs, default={}, help="of clusters, such as dimensions=4,eps=0.6")
    parser.add_argument("--folder", type=Path, help="keep crops, snapshots and adapted models here, for the next time")
    return parser.parse_args()


if __name__ == "__main__":
    main()
