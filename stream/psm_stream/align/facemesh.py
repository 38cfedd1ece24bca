"""MediaPipe FaceMesh: 478 landmarks, models inside the wheel, one network run per frame while a face is followed.

mediapipe's own `solutions.FaceMesh` hides the presence score, takes the detector's best face instead of the largest,
and finds small faces badly. We run its landmark network with attention (the FaceLandmarkCpu subgraph) ourselves and
carry the region of interest from frame to frame here, so that each face has a confidence and the largest is taken. New
faces come from the full-range detector (5.5 ms, finds all of five faces where the short-range one finds one), which
runs only while a face is missing. While a face is followed, the landmarks are those of `solutions.FaceMesh` (tested).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import mediapipe
import numpy as np
from mediapipe.framework.formats import rect_pb2
from mediapipe.python import packet_creator, packet_getter
from mediapipe.python._framework_bindings import (
    calculator_graph,
    image_frame,
    resource_util,
    validated_graph_config,
)
from numpy.typing import NDArray

from psm_stream.align import template
from psm_stream.align.crops import Crops
from psm_stream.align.steady import Steady
from psm_stream.align.tracks import FaceIds, box_of, same_place
from psm_stream.config import AlignerSettings
from psm_stream.errors import AlignError
from psm_stream.values import AlignedFace, Faces, Frame, Image, NoFace, Sighting

LANDMARKS = 478
ACQUIRE_SCORE = 0.7
"""Detector score that a new face needs. In our recordings faces score 0.74 and more, but for dark or turned ones (from
0.63: found some frames later, and 2 of 120 stills are missed). What is no face scores up to 0.69: letters of a film's
title, which the landmark network then takes for faces with a confidence of 0.99."""
LOOK_FOR_MORE_EVERY = 10
"""While fewer than max_faces are followed, the detector runs on every tenth frame."""

_DETECT = """
input_stream: "image"
output_stream: "found"
output_stream: "rois"
node { calculator: "FaceDetectionFullRangeCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:found" }
node { calculator: "ImagePropertiesCalculator" input_stream: "IMAGE:image" output_stream: "SIZE:size" }
node {
  calculator: "BeginLoopDetectionCalculator"
  input_stream: "ITERABLE:found" input_stream: "CLONE:size"
  output_stream: "ITEM:one" output_stream: "CLONE:its_size" output_stream: "BATCH_END:end"
}
node {
  calculator: "FaceDetectionFrontDetectionToRoi"
  input_stream: "DETECTION:one" input_stream: "IMAGE_SIZE:its_size" output_stream: "ROI:roi"
}
node {
  calculator: "EndLoopNormalizedRectCalculator"
  input_stream: "ITEM:roi" input_stream: "BATCH_END:end" output_stream: "ITERABLE:rois"
}
"""
_LANDMARKS = """
input_stream: "image"
input_stream: "roi"
input_side_packet: "with_attention"
output_stream: "landmarks"
output_stream: "next_roi"
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image" input_stream: "ROI:roi" input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
node { calculator: "ImagePropertiesCalculator" input_stream: "IMAGE:image" output_stream: "SIZE:size" }
node {
  calculator: "FaceLandmarkLandmarksToRoi"
  input_stream: "LANDMARKS:landmarks" input_stream: "IMAGE_SIZE:size" output_stream: "ROI:next_roi"
}
"""
# the score inside FaceLandmarkCpu, as mediapipe names it once the subgraph is expanded
_SCORE = "facelandmarkcpu__face_presence_score"


@dataclass(frozen=True, slots=True)
class _Track:
    face_id: int
    roi: Any  # a mediapipe packet holding a NormalizedRect
    steady: Steady


@dataclass(frozen=True, slots=True)
class _Found:
    landmarks: NDArray[np.float32]
    confidence: float
    next_roi: Any


class FaceMeshAligner:
    """Follows up to `max_faces` faces. See the module text for what differs from `solutions.FaceMesh`."""

    name = "facemesh"

    def __init__(self, settings: AlignerSettings, crops: Crops) -> None:
        self._settings = settings
        self._crops = crops
        resource_util.set_resource_dir(os.path.dirname(os.path.dirname(mediapipe.__file__)))
        self._detector = _Graph(_DETECT, ["found", "rois"], {})
        attention = {"with_attention": packet_creator.create_bool(True)}
        self._mesh = _Graph(_LANDMARKS, ["landmarks", "next_roi", _SCORE], attention)
        self._tracks: list[_Track] = []
        self._ids = FaceIds()
        self._frames_seen = 0

    def __call__(self, frame: Frame) -> Sighting:
        """Align one frame. Raises AlignError: mediapipe refused the picture."""
        packet = _image_packet(frame.image)
        faces, tracks = self._follow(frame, packet)
        if len(tracks) < self._settings.max_faces and (not tracks or self._frames_seen % LOOK_FOR_MORE_EVERY == 0):
            self._acquire(frame, packet, faces, tracks)
        self._frames_seen += 1
        self._tracks = tracks
        if not faces:
            return NoFace(frame.stamp, "no face found")
        return Faces(frame.stamp, tuple(sorted(faces, key=lambda face: face.face_id)))

    def warm_up(self) -> None:
        """Run both networks on an empty picture."""
        packet = _image_packet(np.zeros((256, 256, 3), dtype=np.uint8))
        self._detector.run(image=packet)
        middle = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1.0, height=1.0)
        self._mesh.run(image=packet, roi=packet_creator.create_proto(middle))

    def close(self) -> None:
        """Free the graphs."""
        self._detector.close()
        self._mesh.close()

    def _follow(self, frame: Frame, packet: Any) -> tuple[list[AlignedFace], list[_Track]]:
        faces: list[AlignedFace] = []
        tracks: list[_Track] = []
        for track in self._tracks:
            found = self._look(frame.image, packet, track.roi)
            if found is not None and not _among(found.landmarks, faces):
                faces.append(self._face(frame, track.face_id, found, track.steady))
                tracks.append(_Track(track.face_id, found.next_roi, track.steady))
        return faces, tracks

    def _acquire(self, frame: Frame, packet: Any, faces: list[AlignedFace], tracks: list[_Track]) -> None:
        """Add detected faces, the largest first, to `faces` and `tracks`, up to max_faces."""
        for rect in self._detect(packet):
            if len(tracks) >= self._settings.max_faces:
                return
            found = self._look(frame.image, packet, packet_creator.create_proto(rect))
            if found is None or _among(found.landmarks, faces):
                continue
            face_id = self._ids.take(box_of(found.landmarks), {track.face_id for track in tracks})
            steady = Steady(self._crops.size_px)
            faces.append(self._face(frame, face_id, found, steady))
            tracks.append(_Track(face_id, found.next_roi, steady))

    def _detect(self, packet: Any) -> list[Any]:
        """Return the regions of detected faces, the largest first."""
        out = self._detector.run(image=packet)
        rois, found = out.get("rois"), out.get("found")
        if rois is None or rois.is_empty() or found is None or found.is_empty():
            return []
        scores = [detection.score[0] for detection in packet_getter.get_proto_list(found)]
        rects = zip(packet_getter.get_proto_list(rois), scores, strict=True)
        sure = [rect for rect, score in rects if score >= ACQUIRE_SCORE]
        return sorted(sure, key=lambda rect: rect.width * rect.height, reverse=True)

    def _look(self, image: Image, packet: Any, roi: Any) -> _Found | None:
        """Run the landmark network on one region. None: no face there, too unsure, or mostly outside the image."""
        out = self._mesh.run(image=packet, roi=roi)
        landmarks = out.get("landmarks")
        if landmarks is None or landmarks.is_empty():
            return None
        confidence = float(packet_getter.get_float(out[_SCORE]))
        points = _points(packet_getter.get_proto(landmarks), image.shape[1], image.shape[0])
        if confidence < self._settings.min_confidence or template.inside(points, image.shape[1], image.shape[0]) < 0.5:
            return None
        return _Found(points, confidence, packet_creator.create_proto(packet_getter.get_proto(out["next_roi"])))

    def _face(self, frame: Frame, face_id: int, found: _Found, steady: Steady) -> AlignedFace:
        self._ids.seen(face_id, box_of(found.landmarks))
        to_crop = steady(template.fit(found.landmarks, self._crops.size_px, self._crops.template))
        crop = template.warp(frame.image, to_crop, self._crops.size_px)
        eyes = self._crops.template.eye_distance
        return AlignedFace(frame.stamp, face_id, crop, found.landmarks, to_crop, found.confidence, eye_distance=eyes)


class _Graph:
    """A mediapipe graph run one picture at a time."""

    def __init__(self, text: str, outputs: list[str], side: dict[str, Any]) -> None:
        config = validated_graph_config.ValidatedGraphConfig()
        try:
            config.initialize(graph_config=text)
            self._graph: Any = calculator_graph.CalculatorGraph(graph_config=config.text_config)
            for name in outputs:
                self._graph.observe_output_stream(name, self._receive, True)
            self._graph.start_run(side)
        except (RuntimeError, ValueError, FileNotFoundError) as error:
            raise AlignError(
                f"mediapipe {mediapipe.__version__} cannot start FaceMesh: {_first_line(error)}"
            ) from error
        self._out: dict[str, Any] = {}
        self._time_us = 0

    def run(self, **inputs: Any) -> dict[str, Any]:
        self._out.clear()
        self._time_us += 33_333  # mediapipe only wants it to grow
        try:
            for name, packet in inputs.items():
                self._graph.add_packet_to_input_stream(name, packet.at(self._time_us))
            self._graph.wait_until_idle()
        except (RuntimeError, ValueError) as error:
            raise AlignError(f"mediapipe failed on a frame: {_first_line(error)}") from error
        return self._out

    def close(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _receive(self, name: str, packet: Any) -> None:
        self._out[name] = packet


def _image_packet(image: Image) -> Any:
    picture = np.ascontiguousarray(image)
    picture.setflags(write=False)  # mediapipe reads the array in place
    return packet_creator.create_image_frame(image_format=image_frame.ImageFormat.SRGB, data=picture, copy=False)


def _points(landmark_list: Any, width: int, height: int) -> NDArray[np.float32]:
    """Return [478, 2] px. Landmarks come as 0..1 of the image's sides."""
    flat = [value for point in landmark_list.landmark for value in (point.x, point.y)]
    points = np.array(flat, dtype=np.float32).reshape(LANDMARKS, 2) * np.array((width, height), dtype=np.float32)
    points.setflags(write=False)
    return points


def _among(landmarks: NDArray[np.float32], faces: list[AlignedFace]) -> bool:
    box = box_of(landmarks)
    return any(same_place(box, box_of(face.landmarks)) for face in faces)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
