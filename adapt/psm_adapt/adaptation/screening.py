"""Screening: what of a snapshot may be learned from, and why nothing is.

In this order, cheap before dear: the most frequent face is kept; then there must be enough faces, they must be pictures
and not noise, they must move as a living face does; faces with a hand before them are dropped; and what is left must be
one person. Under 1 s for 500 faces on one thread. docs/adaptation.md has the error rates that the thresholds were
chosen by, and what cannot be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from psm_adapt.adaptation.likeness import Groups, looks, shapes, two_groups
from psm_adapt.adaptation.occlusion import occlusion_scores
from psm_adapt.adaptation.screening_weights import screening_weights
from psm_stream.align import template
from psm_stream.sections import Section

if TYPE_CHECKING:
    from psm_adapt.adaptation.snapshot import Snapshot

Rows = NDArray[np.int64]

_AT_ONCE = 64
_CROP_PX = 128
_FLAT = 4.0
"""Grey levels: a picture of less contrast is not stretched further."""


class ScreenSettings(Section):
    """What is asked of the faces."""

    fewest: int = Field(default=100, ge=8)
    """Faces that must remain."""
    smoothness: float = Field(default=0.6, ge=0, le=1)
    """Least correlation of neighbouring pixels, of 64x64: noise has 0, faces have 0.9 and more."""
    motion: float = Field(default=0.12, ge=0)
    """A buffer whose picture moves less than this, in its deviations, is looked at for being a still image."""
    motion_px: float = Field(default=0.5, ge=0)
    """So is one whose landmarks move less than this, px of a crop of 128."""
    steadiness: float = Field(default=1.5, ge=0)
    """Such motion, over that from face to face, must be at least so much: a still under noise has 1, a slow nod 3."""
    hidden: float = 3.0
    """Occlusion score above which a face is hidden, unless the person's own faces score high."""
    hidden_over: float = Field(default=4.0, ge=0)
    """How far above the person's own level, the lowest fifth, a face must score to be hidden."""
    hidden_surely: float = 7.0
    """Score above which a face is hidden whatever the person's own level."""
    apart: float = Field(default=103.0, gt=0)
    """Most that two groups of faces may be apart; see `likeness.Groups.apart`."""
    apart_few: float = Field(default=5700.0, ge=0)
    """Added to it, divided by the number of faces: few faces scatter too little to be compared with."""
    second: float = Field(default=0.1, gt=0, le=0.5)
    """Least share of the faces that a second person must have."""


@dataclass(frozen=True, slots=True)
class Screening:
    """What of a snapshot may be learned from."""

    rows: Rows
    """Positions in the snapshot that are kept, in order; empty when it is refused."""
    refused: str
    """Why nothing is learned from it, in one line; "" if something is."""
    figures: dict[str, float]


def screen(snapshot: Snapshot, settings: ScreenSettings) -> Screening:
    """Look at a snapshot before anything is learned from it. What was not looked at any more has no figure."""
    return _Look(snapshot, settings).screening()


class _Look:
    """One look at a snapshot; each step says why it is refused, "" if it is not."""

    def __init__(self, snapshot: Snapshot, settings: ScreenSettings) -> None:
        self.snapshot, self.settings = snapshot, settings
        self.rows: Rows = np.arange(len(snapshot.crops))
        self.figures: dict[str, float] = {}

    def screening(self) -> Screening:
        steps = (self.one_face, self.pictures, self.alive, self.unhidden, self.one_person)
        refused = next((why for step in steps if (why := step())), "")
        return Screening(self.rows[:0] if refused else self.rows, refused, self.figures)

    def one_face(self) -> str:
        """Keep the most frequent face id, the lowest of equals."""
        ids, counts = np.unique(self.snapshot.face_id, return_counts=True)
        self.figures |= {"screen_faces": float(len(self.rows)), "screen_face_ids": float(len(ids))}
        if len(ids) > 1:
            self.rows = np.flatnonzero(self.snapshot.face_id == ids[counts.argmax()])
        return self._too_few(f"of {len(ids)} faces in view" if len(ids) > 1 else "")

    def pictures(self) -> str:
        smoothness = _smoothness(self._crops()[:: max(1, len(self.rows) // 50)])
        self.figures["screen_smoothness"] = smoothness
        if smoothness >= self.settings.smoothness:
            return ""
        return f"the faces look like noise: neighbouring pixels correlate by {smoothness:.2f}; check the camera"

    def alive(self) -> str:
        """Both the picture and the landmarks must move; light may change a still picture, but no landmarks."""
        looked_at = [("pictures", _pictures_over_time(self._crops()), self.settings.motion)]
        landmarks = self.snapshot.landmarks[self.rows]
        if np.isfinite(landmarks).all():
            looked_at.append(("landmarks", _landmarks_over_time(landmarks), self.settings.motion_px))
        for name, values, least in looked_at:
            motion, steadiness = _motion(values)
            self.figures |= {f"screen_{name}_motion": motion, f"screen_{name}_steadiness": steadiness}
            if motion < least and steadiness < self.settings.steadiness:
                return (
                    f"a still image: in the {name} nothing moves but noise ({motion:.3f}, steadiness {steadiness:.2f})"
                )
        return ""

    def unhidden(self) -> str:
        """Drop faces with a hand before them."""
        scores = occlusion_scores(screening_weights()[1], self._crops())
        level = float(np.quantile(scores, 0.2))
        wanted = self.settings
        limit = min(max(level + wanted.hidden_over, wanted.hidden), wanted.hidden_surely)
        hidden = scores > limit
        self.figures |= {"screen_hidden": float(hidden.sum()), "screen_occlusion_level": level}
        seen = len(self.rows)
        self.rows = self.rows[~hidden]
        return self._too_few(f"{hidden.sum()} of {seen} have a hand or a thing before them")

    def one_person(self) -> str:
        landmarks = self.snapshot.landmarks[self.rows]
        if not np.isfinite(landmarks).all():
            return ""  # crops that were taken as they are; nothing to tell people by
        least = round(self.settings.second * len(self.rows))
        groups = two_groups(shapes(landmarks), looks(self._crops()), screening_weights()[0], least)
        if groups is None:
            return ""
        count = int(min(groups.second.sum(), (~groups.second).sum()))
        most = self.settings.apart + self.settings.apart_few / len(self.rows)
        self.figures |= {
            "screen_groups_apart": groups.apart,
            "screen_groups_shape": groups.shape,
            "screen_groups_look": groups.look,
            "screen_second_group": float(count),
        }
        return "" if groups.apart <= most else self._two_people(groups, count, most)

    def _two_people(self, groups: Groups, count: int, most: float) -> str:
        return (
            f"two people are mixed: {len(self.rows) - count} faces of one and {count} of another "
            f"(apart {groups.apart:.0f}, at most {most:.0f} is one person); let one person sit before the camera"
        )

    def _too_few(self, why: str) -> str:
        if len(self.rows) >= self.settings.fewest:
            return ""
        because = f"; {why}" if why else ""
        return f"too few faces: {len(self.rows)}, at least {self.settings.fewest} are needed{because}"

    def _crops(self) -> NDArray[np.uint8]:
        if len(self.rows) == len(self.snapshot.crops):
            return self.snapshot.crops
        return self.snapshot.crops[self.rows]


def _smoothness(crops: NDArray[np.uint8]) -> float:
    """Correlation of neighbouring pixels, the median over crops [n, S, S, 3]; 1 where a crop is of one colour."""
    images = _grey(crops, 64)
    images = images - images.mean((1, 2), keepdim=True)
    power = images.square().mean((1, 2))
    across = (images[:, :, 1:] * images[:, :, :-1]).mean((1, 2))
    down = (images[:, 1:] * images[:, :-1]).mean((1, 2))
    return float(torch.where(power > 0, (across + down) / 2 / power.clamp(min=1e-9), 1.0).median())


def _pictures_over_time(crops: NDArray[np.uint8]) -> Tensor:
    """The middle of crops [n, S, S, 3] in blocks of an eighth, light and contrast taken out. Returns [n, 144]."""
    images = _grey(crops, 16)[:, 2:14, 2:14].flatten(1)
    return (images - images.mean(1, keepdim=True)) / (images.std(1, keepdim=True) + _FLAT)


def _landmarks_over_time(landmarks: NDArray[np.float32]) -> Tensor:
    """Landmarks [n, 478, 2] in the crop, px of 128. Returns [n, 956]."""
    placed = [template.to_crop_px(face, template.fit(face, _CROP_PX)) for face in landmarks]
    return torch.from_numpy(np.stack(placed)).flatten(1)


def _motion(values: Tensor) -> tuple[float, float]:
    """How much values [n, D] in order of time change, and how steadily.

    The first is the deviation over time; the second is that relative to the step from one to the next, divided by the
    root of two: 1 for white noise, more for what goes on for longer than a face. Source: the root of twice the inverse
    of von Neumann's ratio, 1941.
    """
    motion = float((values - values.mean(0)).square().mean().sqrt())
    step = float((values[1:] - values[:-1]).square().mean().sqrt()) / 2**0.5
    return motion, motion / step if step > 0 else 0.0


def _grey(crops: NDArray[np.uint8], side: int) -> Tensor:
    """Mean of the colours, averaged over blocks. Returns float32 [n, side, side]."""
    parts = [torch.from_numpy(np.array(part)) for part in np.array_split(crops, max(1, len(crops) // _AT_ONCE))]
    return torch.cat([F.interpolate(part.float().mean(3)[:, None], (side, side), mode="area")[:, 0] for part in parts])
