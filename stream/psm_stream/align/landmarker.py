"""MediaPipe Face Landmarker: 478 landmarks with 52 blendshapes and the head's pose, from a `.task` file.

About three times the cost of FaceMesh. The task gives no presence score, so `confidence` is NaN, and with one face it
follows the detector's best one, which need not be the largest.
"""

from __future__ import annotations

from typing import Any

import mediapipe
import numpy as np
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision
from numpy.typing import NDArray

from psm_stream.align import template
from psm_stream.align.crops import Crops
from psm_stream.align.steady import Steady
from psm_stream.align.tracks import Box, FaceIds, box_of, still_followed
from psm_stream.config import AlignerSettings
from psm_stream.errors import AlignError
from psm_stream.models import FACE_LANDMARKER
from psm_stream.values import NAN, AlignedFace, Faces, Frame, NoFace, Sighting, Stamp


class LandmarkerAligner:
    """Follows up to `max_faces` faces with the Face Landmarker in video mode."""

    name = "landmarker"

    def __init__(self, settings: AlignerSettings, crops: Crops) -> None:
        self._settings = settings
        self._crops = crops
        self._task: Any = _open(settings)
        self._ids = FaceIds()
        self._followed: dict[int, Box] = {}
        self._steady: dict[int, Steady] = {}
        self._time_ms = 0

    def __call__(self, frame: Frame) -> Sighting:
        """Align one frame. Raises AlignError: mediapipe refused the picture."""
        self._time_ms += 33  # mediapipe only wants it to grow
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame.image))
        try:
            found = self._task.detect_for_video(picture, self._time_ms)
        except (RuntimeError, ValueError) as error:
            raise AlignError(f"mediapipe failed on a frame: {error}") from error
        faces = self._faces(frame, found)
        if not faces:
            return NoFace(frame.stamp, "no face found")
        return Faces(frame.stamp, tuple(faces[face_id] for face_id in sorted(faces)))

    def warm_up(self) -> None:
        """Run the detector on an empty picture."""
        self(Frame(Stamp(-1, 0.0), np.zeros((256, 256, 3), dtype=np.uint8)))

    def close(self) -> None:
        """Free the model."""
        if self._task is not None:
            self._task.close()
            self._task = None

    def _faces(self, frame: Frame, found: Any) -> dict[int, AlignedFace]:
        """Return the faces by id, and remember where they are."""
        height, width = frame.image.shape[:2]
        meshes = {n: _points(mesh, width, height) for n, mesh in enumerate(found.face_landmarks)}
        meshes = {n: points for n, points in meshes.items() if template.inside(points, width, height) >= 0.5}
        ids = self._identify({n: box_of(points) for n, points in meshes.items()})
        return {face_id: self._face(frame, face_id, meshes[n], found, n) for n, face_id in ids.items()}

    def _identify(self, boxes: dict[int, Box]) -> dict[int, int]:
        """Return the id of each box: first of the faces that are followed, then of new ones, the largest first."""
        order = list(boxes)
        kept = still_followed(self._followed, [boxes[n] for n in order])
        ids = {order[position]: face_id for position, face_id in kept.items()}
        self._steady = {face_id: self._steady[face_id] for face_id in ids.values()}
        for n in sorted(boxes.keys() - ids.keys(), key=lambda n: -boxes[n][2]):
            ids[n] = self._ids.take(boxes[n], set(ids.values()))
            self._steady[ids[n]] = Steady(self._crops.size_px)
        self._followed = {face_id: boxes[n] for n, face_id in ids.items()}
        for face_id, box in self._followed.items():
            self._ids.seen(face_id, box)
        return ids

    def _face(self, frame: Frame, face_id: int, points: NDArray[np.float32], found: Any, n: int) -> AlignedFace:
        """Make the face of the n-th mesh found, which has the given points [478, 2] px."""
        to_crop = self._steady[face_id](template.fit(points, self._crops.size_px, self._crops.template))
        return AlignedFace(
            frame=frame.stamp,
            face_id=face_id,
            crop=template.warp(frame.image, to_crop, self._crops.size_px),
            landmarks=points,
            to_crop=to_crop,
            confidence=NAN,
            blendshapes=np.array([shape.score for shape in found.face_blendshapes[n]], dtype=np.float32),
            pose=np.asarray(found.facial_transformation_matrixes[n], dtype=np.float32),
            eye_distance=self._crops.template.eye_distance,
        )


def _open(settings: AlignerSettings) -> Any:
    path = settings.model or FACE_LANDMARKER.path()
    advice = "fetch it with psm-doctor --fetch-models, or name another with --aligner.model"
    if not path.is_file():
        raise AlignError(f"Face Landmarker model {path} is not there; {advice}")
    options = vision.FaceLandmarkerOptions(
        # read here: mediapipe's own path handling fails on some Windows paths
        base_options=tasks.BaseOptions(model_asset_buffer=path.read_bytes()),
        running_mode=vision.RunningMode.VIDEO,
        num_faces=settings.max_faces,
        min_face_presence_confidence=settings.min_confidence,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    try:
        return vision.FaceLandmarker.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise AlignError(f"{path} is not a Face Landmarker model ({first}); {advice}") from None


def _points(mesh: Any, width: int, height: int) -> NDArray[np.float32]:
    points = np.array([(point.x, point.y) for point in mesh], dtype=np.float32)
    points *= np.array((width, height), dtype=np.float32)
    points.setflags(write=False)
    return points
