"""Jitter of the aligned crop, for alignment.py: noisy stills, and frames of real videos that hardly differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
from common import say, shared_file
from numpy.typing import NDArray
from videos import demo_pictures, pictures

from psm_stream.align import open_aligner, template
from psm_stream.config import AlignerSettings
from psm_stream.values import AlignedFace, Faces, Frame, Stamp

SIZE_PX = 128
NOISE_LEVELS = (2.0, 4.0)
"""Standard deviation of the noise, grey levels of 255."""
SETTLING = 10
"""Frames at the beginning that are not counted."""
CORNERS = np.array([(0.0, 0.0), (SIZE_PX - 1.0, 0.0), (0.0, SIZE_PX - 1.0), (SIZE_PX - 1.0, SIZE_PX - 1.0)])
VIDEOS = ("people/audun_cap13_400x300.mp4", "grid/grid_s1.mp4", "grid/grid_s31.mp4", "fixtures/openwillis_baseline.mp4")


def follow(images: Iterable[NDArray[np.uint8]]) -> list[AlignedFace]:
    """Align images in order with an aligner of their own; the first face of each that has one."""
    aligner = open_aligner(AlignerSettings(size_px=SIZE_PX))
    sightings = [aligner(Frame(Stamp(index, index / 30), image)) for index, image in enumerate(images)]
    aligner.close()
    return [sighting.faces[0] for sighting in sightings if isinstance(sighting, Faces)]


def of_noisy_stills(stills: Sequence[NDArray[np.uint8]], frames: int) -> dict[str, Any]:
    """Follow stills with fresh noise in each frame; by noise level."""
    figures = {}
    for sigma in NOISE_LEVELS:
        crops = [_crops(follow(_noisy(still, sigma, frames, seed)))[SETTLING:] for seed, still in enumerate(stills)]
        figures[f"noise {sigma:g}"] = {
            kind: {
                "std_px": _figures([_spread(each[:, which]) for each in crops]),
                "frame_to_frame_px": _figures(np.concatenate([_motion(each[:, which]) for each in crops])),
            }
            for which, kind in enumerate(("fitted", "steadied"))
        }
        say(f"stills with noise of {sigma:g} grey levels: {len(crops)}")
    return {"stills": len(stills), "frames_each": frames, **figures}


def of_videos(frames: int) -> dict[str, Any]:
    """Motion between the frames that differ least, and the largest lag; by video."""
    files = {name: shared_file(name) for name in VIDEOS}
    found = {name: pictures(path) for name, path in files.items() if path is not None}
    return {
        name: _of_video(name, images, frames) for name, images in (found or {"demo": demo_pictures(640, 480)}).items()
    }


def _of_video(name: str, images: Iterable[NDArray[np.uint8]], count: int) -> dict[str, Any]:
    frames = list(islice(images, count))
    change = np.array([float(np.abs(a.astype(np.int16) - b).mean()) for a, b in pairwise(frames)])
    faces = follow(frames)
    say(f"{name}: {len(faces)} of {len(frames)} frames have a face")
    if len(faces) < len(frames):
        return {"frames": len(frames), "with_face": len(faces), "skipped": "not a face in every frame"}
    crops = _crops(faces)
    limit = np.quantile(change[change > 0], 0.1)
    quiet = (change > 0) & (change <= limit)  # repeated pictures do not move at all
    return {
        "frames": len(frames),
        "pairs_counted": int(quiet.sum()),
        "they_differ_by_grey_levels_at_most": round(float(limit), 3),
        "fitted_px": _figures(_motion(crops[:, 0])[quiet]),
        "steadied_px": _figures(_motion(crops[:, 1])[quiet]),
        "lag_px": round(max(_lag(face) for face in faces), 3),
    }


def _noisy(still: NDArray[np.uint8], sigma: float, count: int, seed: int) -> Iterable[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.clip(np.rint(still + rng.normal(0, sigma, still.shape)), 0, 255).astype(np.uint8)


def _crops(faces: Sequence[AlignedFace]) -> NDArray[np.float64]:
    """Where the same four points of the source lie in each crop: [N, fitted or steadied, 4, 2] px.

    The four are those that the corners of the crop show in the frame in the middle.
    """
    source = _unwarp(faces[len(faces) // 2].to_crop)
    return np.array([[_warp(warp, source) for warp in (_fitted(face), face.to_crop)] for face in faces])


def _lag(face: AlignedFace) -> float:
    """From the corners of the fitted crop to those of the steadied one, px."""
    return float(_largest((_warp(face.to_crop, _unwarp(_fitted(face))) - CORNERS)[None])[0])


def _fitted(face: AlignedFace) -> NDArray[np.float32]:
    return template.fit(face.landmarks, SIZE_PX)


def _warp(to_crop: NDArray[np.float32], source: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(source @ to_crop[:, :2].T + to_crop[:, 2])


def _unwarp(to_crop: NDArray[np.float32]) -> NDArray[np.float64]:
    """Where the corners of a crop lie in the source, [4, 2] px."""
    return np.asarray((CORNERS - to_crop[:, 2]) @ np.linalg.inv(to_crop[:, :2].astype(np.float64)).T)


def _motion(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """From frame to frame. corners: [N, 4, 2]. Returns [N - 1] px."""
    return _largest(np.diff(corners, axis=0))


def _spread(corners: NDArray[np.float64]) -> float:
    """Root mean square distance from the mean place. corners: [N, 4, 2]. Returns px, of the corner that moves most."""
    away = corners - corners.mean(axis=0)
    return float(np.sqrt((away**2).sum(axis=2).mean(axis=0)).max())


def _largest(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """vectors: [N, 4, 2]. Returns the longest of each four, [N]."""
    return np.asarray(np.hypot(vectors[..., 0], vectors[..., 1]).max(axis=1))


def _figures(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    return {
        "mean": round(float(np.mean(values)), 4),
        "median": round(float(np.median(values)), 4),
        "p95": round(float(np.percentile(values, 95)), 4),
    }
