"""How right and how steady the alignment is: against landmarks placed by hand, and on faces that do not move.

    python benchmarks/alignment.py [--people 20] [--noisy-stills 10] [--noisy-frames 60] [--video-frames 400]

accuracy: eye centres (middle of the two corners) and mouth corners that `psm_stream.align` finds in the stills of the
IMM Face Database, after following the still for a few frames. `error` is the distance to the point placed by hand over
the distance between the eyes (of the centres placed by hand), in percent; `offset` its mean, x to the right and y down:
what is systematic, mostly because the two mean different places.

jitter: motion of the crop in pixels of the 128 px crop, that of the corner that moves most, as fitted to each frame's
landmarks (`fitted`) and as it is used (`steadied`). `stills` have fresh sensor noise in each frame; `videos` are of
real faces, and counted are the tenth of their frames that differ least from the one before. `lag_px` is the largest
distance between the fitted and the steadied crop in the whole video, motion included.

Without the shared face data there is no accuracy, and jitter is that of the demo's face.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import imm
import numpy as np
from common import report, say, shared_file
from jitter import follow, of_noisy_stills, of_videos
from numpy.typing import NDArray
from videos import demo_pictures

from psm_stream.align import template

LOOKS = 4
"""Frames for which a still is followed; the region looked at settles in the second."""
_POINTS = {
    "right eye": (imm.RIGHT_EYE, template.RIGHT_EYE),
    "left eye": (imm.LEFT_EYE, template.LEFT_EYE),
    "right mouth corner": (imm.MOUTH_CORNERS[:1], template.MOUTH_CORNERS[:1]),
    "left mouth corner": (imm.MOUTH_CORNERS[1:], template.MOUTH_CORNERS[1:]),
}
"""Point -> the landmarks whose middle it is: of IMM, of MediaPipe."""


def main() -> None:
    parser = argparse.ArgumentParser(description="accuracy and jitter of the alignment; prints JSON")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--noisy-stills", type=int, default=10)
    parser.add_argument("--noisy-frames", type=int, default=60)
    parser.add_argument("--video-frames", type=int, default=400)
    options = parser.parse_args()
    archive = shared_file("imm/imm_01_20.zip")
    if archive is None:
        say("no shared face data (PSM_DATA): no accuracy, and jitter of the demo's face alone")
        still = [next(demo_pictures(640, 480))]
    else:
        neutral = [still.image for still in imm.stills(archive) if still.kind == "neutral"]
        still = neutral[: options.noisy_stills]
    figures = {
        "accuracy": accuracy(archive, options.people) if archive else None,
        "jitter": {
            "stills": of_noisy_stills(still, options.noisy_frames),
            "videos": of_videos(options.video_frames),
        },
    }
    report("alignment", vars(options), figures)


def accuracy(archive: Path, people: int) -> dict[str, Any]:
    """Errors by point and by kind of still, in percent of the distance between the eyes."""
    offsets: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    failures: list[str] = []
    for still in imm.stills(archive):
        if int(still.name[:2]) > people:
            break
        faces = follow([still.image] * LOOKS)
        if not faces:
            failures.append(still.name)
            continue
        for point, offset in _offsets(still.points, faces[-1].landmarks).items():
            offsets[point].append(offset)
            offsets[still.kind].append(offset)
            offsets["all"].append(offset)
    say(f"accuracy over {len(offsets['all']) // len(_POINTS)} stills, {len(failures)} without a face")
    return {
        "unit": "percent of the distance between the eyes",
        "failures": failures,
        "all": _summary(offsets["all"]),
        "by_point": {point: _summary(offsets[point]) for point in _POINTS},
        "by_kind": {kind: _summary(offsets[kind]) for kind in imm.KINDS if offsets[kind]},
    }


def _offsets(by_hand: NDArray[np.float64], found: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """From the points placed by hand to those found, [2] each."""
    middles = {
        point: (by_hand[list(theirs)].mean(axis=0), found[list(ours)].mean(axis=0))
        for point, (theirs, ours) in _POINTS.items()
    }
    between_eyes = float(np.hypot(*(middles["left eye"][0] - middles["right eye"][0])))
    return {point: 100 * (found - placed) / between_eyes for point, (placed, found) in middles.items()}


def _summary(offsets: list[NDArray[np.float64]]) -> dict[str, Any]:
    distances = [float(np.hypot(*offset)) for offset in offsets]
    mean_x, mean_y = np.mean(offsets, axis=0)
    return {
        "error": {
            "mean": round(float(np.mean(distances)), 2),
            "median": round(float(np.median(distances)), 2),
            "p95": round(float(np.percentile(distances, 95)), 2),
        },
        "offset": [round(float(mean_x), 2), round(float(mean_y), 2)],
        "n": len(distances),
    }


if __name__ == "__main__":
    main()
