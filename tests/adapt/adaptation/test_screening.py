"""Screening: buffers made bad in known ways, of the demo's face, and of real people where their videos are."""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from psm_adapt.adaptation.likeness import CLUSTERS, POINTS, Measure, looks, measure_of, shapes, two_groups
from psm_adapt.adaptation.occlusion import OcclusionNetwork, occlusion_scores
from psm_adapt.adaptation.screening import ScreenSettings, screen
from psm_adapt.adaptation.screening_weights import save_weights, screening_weights
from psm_adapt.adaptation.snapshot import Snapshot, load_snapshot
from psm_stream.align import open_aligner
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.errors import AdaptationError
from psm_stream.sources import SOURCES
from psm_stream.values import Faces, Frame, Stamp

FEW = ScreenSettings(fewest=20)


@pytest.fixture(scope="module")
def demo(demo_snapshot: Path) -> Snapshot:
    return load_snapshot(demo_snapshot)


def but(snapshot: Snapshot, **arrays: np.ndarray) -> Snapshot:
    kept = {column.name: getattr(snapshot, column.name) for column in fields(Snapshot)}
    return Snapshot(**kept | arrays)


def mixed(*parts: Snapshot) -> Snapshot:
    """One after another."""
    names = [column.name for column in fields(Snapshot) if column.name != "to_crop"]
    return Snapshot(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def test_one_face_that_moves_is_kept_whole(demo):
    found = screen(demo, FEW)
    assert found.refused == ""
    assert found.rows.tolist() == list(range(len(demo)))
    assert found.figures["screen_faces"] == len(demo)
    assert found.figures["screen_hidden"] == 0


def test_too_few_faces(demo):
    found = screen(demo.only(np.arange(19)), FEW)
    assert found.refused == "too few faces: 19, at least 20 are needed"
    assert len(found.rows) == 0
    assert screen(demo.only(np.arange(0)), FEW).refused.startswith("too few faces: 0")
    assert screen(demo, ScreenSettings()).refused.startswith(f"too few faces: {len(demo)}, at least 100")


def test_the_most_frequent_face_is_kept(demo):
    ids = np.where(np.arange(len(demo)) % 3 == 0, 0, 7).astype(np.int32)
    found = screen(but(demo, face_id=ids), FEW)
    assert found.rows.tolist() == np.flatnonzero(ids == 7).tolist()
    assert found.figures["screen_face_ids"] == 2
    equal = np.arange(len(demo)).astype(np.int32) % 2
    assert screen(but(demo, face_id=equal), FEW).rows.tolist() == np.flatnonzero(equal == 0).tolist()
    scattered = np.arange(len(demo)).astype(np.int32) // 8
    assert "of 6 faces in view" in screen(but(demo, face_id=scattered), FEW).refused


@pytest.mark.parametrize("deviation", [0, 2, 5, 10])
def test_a_still_image_under_noise(demo, rng, deviation):
    still = demo.only(np.full(60, 3))
    noise = rng.normal(0, deviation, still.crops.shape)
    found = screen(but(still, crops=np.clip(still.crops + noise, 0, 255).astype(np.uint8)), FEW)
    assert found.refused.startswith("a still image")
    assert len(found.rows) == 0


def test_a_still_image_in_a_flickering_light(demo, rng):
    still = demo.only(np.full(60, 3))
    light = 1 + 0.15 * np.sin(np.arange(60) / 3)[:, None, None, None]
    noise = rng.normal(0, 3, still.crops.shape)
    crops = np.clip(still.crops * light + noise, 0, 255).astype(np.uint8)
    assert screen(but(still, crops=crops), FEW).refused.startswith("a still image")


def test_noise(demo, rng):
    crops = rng.integers(0, 256, demo.crops.shape, np.uint8)
    found = screen(but(demo, crops=crops), FEW)
    assert "noise" in found.refused
    assert found.figures["screen_smoothness"] == pytest.approx(0, abs=0.05)


def test_crops_that_were_taken_as_they_are(demo):
    nowhere = np.full_like(demo.landmarks, np.nan)
    found = screen(but(demo, landmarks=nowhere), FEW)
    assert found.refused == ""
    assert "screen_groups_apart" not in found.figures


def other_person(snapshot: Snapshot) -> Snapshot:
    """The same moves on another face: lower brows, a longer nose, and everything else in the picture drawn with it."""
    across, down = np.meshgrid(np.arange(128, dtype=np.float32), np.arange(128, dtype=np.float32))
    map_y = down + 7 * np.sin(down / 12) + 5 * np.cos(across / 9)
    map_x = across + 6 * np.sin(down / 9)
    crops = np.stack([cv2.remap(crop, map_x, map_y, cv2.INTER_LINEAR) for crop in snapshot.crops])
    landmarks = snapshot.landmarks.copy()
    size = np.ptp(landmarks[0, :, 0])
    landmarks[:, [70, 300, 46, 276, 105, 334, 55, 285], 1] += 0.06 * size
    landmarks[:, [5, 4, 1, 48, 278], 1] += 0.05 * size
    landmarks[:, [127, 234, 93], 0] -= 0.06 * size
    landmarks[:, [356, 454, 323], 0] += 0.06 * size
    return but(snapshot, crops=crops, landmarks=landmarks)


def test_two_people_under_one_face_id_are_counted(demo):
    shown = ScreenSettings(fewest=20, hidden=99, hidden_surely=99)  # so drawn, the other looks hidden
    both = mixed(demo, other_person(demo.only(np.arange(30))))
    found = screen(both, shown)
    assert "two people are mixed: 48 faces of one and 30 of another" in found.refused
    order = np.argsort(np.concatenate([np.arange(48) / 48, np.arange(30) / 30]), kind="stable")
    alternating = screen(both.only(order), shown)
    assert "48 faces of one and 30 of another" in alternating.refused
    assert screen(other_person(demo), shown).refused == ""


def test_another_light_is_not_another_person(demo):
    light = np.linspace(0.7, 1.3, 128)[None, None, :, None] * (1.05, 1.0, 0.9)
    lit = but(demo, crops=np.clip(demo.crops * light, 0, 255).astype(np.uint8))
    found = screen(mixed(demo, lit), FEW)
    assert found.refused == ""
    # how far groups lie apart rounds otherwise from processor to processor: by a ten-thousandth here
    assert found.figures["screen_groups_apart"] > 0.99 * screen(demo, FEW).figures["screen_groups_apart"]


def test_two_groups_by_hand(rng):
    """On groups drawn around known means the distance is the one that they were drawn with."""
    dimensions = 2 * len(POINTS), 180
    measure = Measure(torch.eye(dimensions[0]), torch.eye(dimensions[1]))
    drawn = [torch.from_numpy(rng.normal(0, 0.02, (60, size))).float() for size in dimensions]
    for part, distance in zip(drawn, (3.0, 4.0), strict=True):
        part[20:, 0] += distance
    groups = two_groups(*drawn, measure, 10)
    assert groups is not None
    assert sorted([groups.second.sum(), (~groups.second).sum()]) == [20, 40]
    assert groups.shape == pytest.approx(3, rel=0.02)
    assert groups.look == pytest.approx(4, rel=0.02)
    assert groups.apart == groups.shape * groups.look
    assert two_groups(*drawn, measure, 31) is None
    assert two_groups(drawn[0][:CLUSTERS], drawn[1][:CLUSTERS], measure, 3) is None


def test_the_measure_is_one_persons_scatter(rng):
    recordings = [torch.from_numpy(rng.normal(mean, 2.0, (4000, 60))).float() for mean in (0, 5)]
    to = measure_of(recordings, recordings).shape
    assert to.shape == (60, 50)
    scatter = (recordings[0] @ to).var(0)
    assert scatter.mean() == pytest.approx(1 / 1.1, rel=0.05)  # of the ridge


def test_shapes_do_not_depend_on_where_and_how_large_a_face_is(demo):
    moved = demo.landmarks * 1.7 + 31
    assert torch.allclose(shapes(demo.landmarks), shapes(moved), atol=1e-2)


def test_looks_hardly_depend_on_light_and_size(demo):
    as_is = looks(demo.crops)
    darker = looks((demo.crops * 0.7).astype(np.uint8))
    small = looks(np.stack([cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA) for crop in demo.crops]))
    scale = float((as_is - as_is.mean(1, keepdim=True)).square().mean().sqrt())
    assert float((as_is - darker).square().mean().sqrt()) < 0.2 * scale
    assert float((as_is - small).square().mean().sqrt()) < 0.4 * scale


def test_weights_are_read_as_they_were_written(tmp_path, demo):
    measure, network = screening_weights()
    save_weights(tmp_path / "again.safetensors", measure, network)
    again = screening_weights(tmp_path / "again.safetensors")
    assert torch.equal(again[0].shape, measure.shape)
    assert np.array_equal(occlusion_scores(again[1], demo.crops), occlusion_scores(network, demo.crops))
    assert sum(weight.numel() for weight in OcclusionNetwork().parameters()) == 36025


@pytest.mark.parametrize("content", [None, b"something else"])
def test_weights_that_are_missing_or_damaged(tmp_path, content):
    file = tmp_path / "weights.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(AdaptationError, match="install psm-stream again"):
        screening_weights(file)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Callable[[str, int], Snapshot]:
    """Return 60 faces of a video from some frame on, every second frame."""
    return cache(lambda name, first: aligned(shared_data / name, first))


def aligned(video: Path, first: int) -> Snapshot:
    source = SOURCES["file"](SourceSettings(kind="file", path=str(video)), lambda: 0.0)
    aligner = open_aligner(AlignerSettings())
    source.open()
    seen = []
    for number in range(first + 120):
        picture = source.read()
        if number < first or number % 2:
            continue
        sighting = aligner(Frame(Stamp(number, number / 25), np.asarray(picture.image)))
        if isinstance(sighting, Faces):
            seen.append(sighting.faces[0])
    source.close()
    aligner.close()
    count = len(seen)
    return Snapshot(
        crops=np.stack([face.crop for face in seen]),
        landmarks=np.stack([face.landmarks for face in seen]),
        frame_index=np.array([face.frame.index for face in seen]),
        face_id=np.zeros(count, np.int32),
        t_capture=np.array([face.frame.t_capture for face in seen]),
        t_source=np.full(count, np.nan),
        confidence=np.ones(count, np.float32),
    )


def test_real_people(real):
    one, other = real("grid/grid_s1.mp4", 0), real("people/audun_cap12_400x300.mp4", 300)
    for person in (one, other):
        found = screen(person, FEW)
        assert (found.refused, len(found.rows)) == ("", 60)
    assert "60 faces of one and 60 of another" in screen(mixed(one, other), FEW).refused


def test_real_hands_are_dropped(real):
    face = real("fixtures/pyfeat_WolfgangLanger_Pexels.mp4", 0)  # a hand from frame 57 on
    found = screen(face, FEW)
    assert found.refused == ""
    kept = face.frame_index[found.rows]
    assert (kept < 58).sum() >= 28
    assert (kept >= 66).sum() <= 3
    hidden = screen(face.only(np.flatnonzero(face.frame_index > 20)), FEW)
    assert "have a hand or a thing before them" in hidden.refused
