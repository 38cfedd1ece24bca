"""Action units: formulae against movements by hand, blendshapes, the demo's truth and real people."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psm_stream.align import open_aligner, template
from psm_stream.blendshapes import BLENDSHAPES
from psm_stream.clusters.units import PLACES, UNIT_NAMES, UNITS, from_blendshapes, from_landmarks, measure, source_of
from psm_stream.config import AlignerSettings, SourceSettings
from psm_stream.sources.demo import EXPRESSIONS, DemoSource, parse_label
from psm_stream.values import AlignedFace, Faces, Frame, Stamp

SIZE = 128
EYE_DISTANCE_PX = 0.38 * SIZE
PROBE = {
    **{"AU1": ["browInnerUp"], "AU2": ["browOuterUpLeft", "browOuterUpRight"], "AU18": ["mouthPucker"]},
    **{"AU4": ["browDownLeft", "browDownRight"], "AU6+7": ["eyeSquintLeft", "eyeSquintRight"], "AU26": ["jawOpen"]},
    **{"AU10": ["mouthUpperUpLeft", "mouthUpperUpRight"], "AU12": ["mouthSmileLeft", "mouthSmileRight"]},
    **{"AU14": ["mouthDimpleLeft", "mouthDimpleRight"], "AU16": ["mouthLowerDownLeft", "mouthLowerDownRight"]},
    **{"AU24": ["mouthPressLeft", "mouthPressRight"], "AU45": ["eyeBlinkLeft", "eyeBlinkRight"]},
}
"""The proxies that embeddings are judged by."""


def face(landmarks: np.ndarray, to_crop: np.ndarray, blendshapes: np.ndarray | None = None) -> AlignedFace:
    crop = np.zeros((SIZE, SIZE, 3), np.uint8)
    points, matrix = landmarks.astype(np.float32), to_crop.astype(np.float32)
    return AlignedFace(Stamp(0, 0.0), 0, crop, points, matrix, 1.0, blendshapes)


def moved(landmarks: np.ndarray, places: dict[tuple[int, ...], tuple[float, float]]) -> dict[str, float]:
    """How units change, in px, when some landmarks move by (right, down)."""
    after = landmarks.copy()
    for points, by in places.items():
        after[list(points)] += by
    change = (from_landmarks(after, SIZE) - from_landmarks(landmarks, SIZE)) * EYE_DISTANCE_PX
    return {name: round(float(by), 3) for name, by in zip(UNIT_NAMES, change, strict=True) if abs(by) > 1e-3}


def test_movements_that_one_can_name(rng: np.random.Generator) -> None:
    some = (rng.random((478, 2)) * SIZE).astype(np.float32)
    lip, bottom, chin = (14, 87, 317), (17,), (152,)
    assert moved(some, {lip: (0, 4), bottom: (0, 4), chin: (0, 4)}) == {
        **{"AU26": 4.0, "AU16": 4.0},  # the jaw drops
        **{"AU15": -2.0, "AU12": 1.0},  # the corners now lie above the middle of the lips
        "AU17": -4.0,
    }
    upper_lids = (158, 159, 160, 385, 386, 387)
    assert moved(some, {upper_lids: (0, 3)}) == {"AU45": 3.0, "AU6+7": 1.5, "AU5": -3.0}
    brows = (52, 55, 63, 65, 105, 107, 282, 285, 293, 295, 334, 336)
    assert moved(some, {brows: (0, -2)}) == {"AU1": 2.0, "AU2": 2.0, "AU4": -2.0}
    assert moved(some, {(61,): (-3, -2), (291,): (3, -2)}) == {
        **{"AU12": 8.0, "AU15": -2.0, "AU16": 2.0, "AU18": -6.0, "AU24": 1.5},  # a smile
    }


def test_formulae_name_known_places_and_nothing_else() -> None:
    assert len(set(UNIT_NAMES)) == len(UNITS)
    for unit in UNITS:
        terms = re.split(r" [+-] ", unit.formula) if unit.formula else []
        for term in terms:
            factor, place = re.fullmatch(r"(?:([\d.]+) )?[xy]\((.+)\)", term).groups()
            assert place in PLACES, unit
            assert factor is None or 0 < float(factor) <= 2
    assert {unit.name for unit in UNITS if not unit.formula} == {"AU14"}
    used = " ".join(unit.formula for unit in UNITS)
    assert [place for place in PLACES if f"({place})" not in used] == []


@given(st.floats(-0.5, 0.5), st.floats(0.5, 6), st.floats(-300, 900), st.floats(-300, 900))
def test_where_and_how_large_the_face_is_does_not_matter(angle: float, scale: float, x: float, y: float) -> None:
    rng = np.random.default_rng(3)
    in_crop = rng.random((478, 2)) * SIZE
    corners = {33: (33, 44), 133: (53, 44), 362: (75, 44), 263: (95, 44), 168: (64, 38), 6: (64, 45), 2: (64, 79)}
    in_crop[list(corners)] = list(corners.values())
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    in_picture = (in_crop @ turn.T + (x, y)).astype(np.float32)
    upright = face(in_crop, template.fit(in_crop.astype(np.float32), SIZE))
    turned = face(in_picture, template.fit(in_picture, SIZE))
    np.testing.assert_allclose(measure(turned), measure(upright), atol=2e-3)
    expected = from_landmarks(template.to_crop_px(turned.landmarks, turned.to_crop), SIZE)
    np.testing.assert_allclose(measure(turned), expected, atol=1e-3)


@pytest.mark.parametrize(("distance", "line", "size"), [(0.25, 0.5, 256), (0.5, 0.3, 64)])
def test_units_are_the_same_by_any_template(distance: float, line: float, size: int) -> None:
    landmarks = (np.random.default_rng(3).random((478, 2)) * 300).astype(np.float32)
    corners = {
        33: (66, 88),
        133: (106, 88),
        362: (150, 88),
        263: (190, 88),
        168: (128, 76),
        6: (128, 90),
        2: (128, 158),
    }
    landmarks[list(corners)] = list(corners.values())
    ours = face(landmarks, template.fit(landmarks, SIZE))
    wanted = template.Template("other", distance, line)
    other = replace(
        face(landmarks, template.fit(landmarks, size, wanted)),
        crop=np.zeros((size, size, 3), np.uint8),
        eye_distance=distance,
    )
    np.testing.assert_allclose(measure(other), measure(ours), atol=1e-4)


def test_blendshapes_are_averaged_as_the_probe_does(rng: np.random.Generator) -> None:
    shapes = rng.random(52).astype(np.float32)
    slow = {name: np.mean([shapes[BLENDSHAPES.index(shape)] for shape in names]) for name, names in PROBE.items()}
    found = dict(zip(UNIT_NAMES, from_blendshapes(shapes), strict=True))
    assert {name: pytest.approx(value) for name, value in slow.items()}.items() <= found.items()
    some = face(np.zeros((478, 2)), np.eye(2, 3), shapes)
    assert source_of(some) == "blendshapes"
    assert measure(some).tobytes() == from_blendshapes(shapes).tobytes()


def test_what_landmarks_cannot_tell_is_nan(rng: np.random.Generator) -> None:
    some = face(rng.random((478, 2)) * SIZE, np.eye(2, 3))
    assert source_of(some) == "landmarks"
    units = measure(some)
    assert units.dtype == np.float32
    assert [name for name, value in zip(UNIT_NAMES, units, strict=True) if not np.isfinite(value)] == ["AU14"]


def test_units_follow_the_expressions_that_the_demo_shows() -> None:
    source, aligner = DemoSource(SourceSettings(fps=10), lambda: 0.0), open_aligner(AlignerSettings())
    source.open()
    shown, units = [], []
    for index in range(200):
        picture = source.read()
        sighting = aligner(Frame(Stamp(index, index / 10), picture.image))
        assert isinstance(sighting, Faces)
        label = parse_label(picture.label)
        shown.append([label.intensity * (label.name == name) for name in EXPRESSIONS])
        units.append(measure(sighting.faces[0]))
    source.close()
    aligner.close()
    for unit, expression in {"AU1": "brow_raise", "AU2": "brow_raise", "AU12": "smile", "AU26": "jaw_drop"}.items():
        follows = correlations(np.array(units)[:, UNIT_NAMES.index(unit)], np.array(shown))
        assert follows.argmax() == EXPRESSIONS.index(expression), unit
        assert follows.max() > 0.8, unit
    assert correlations(np.array(units)[:, UNIT_NAMES.index("AU45")], np.array(shown))[EXPRESSIONS.index("blink")] > 0.9


def test_formulae_follow_blendshapes_of_a_real_face(shared_data: Path) -> None:
    model, video = shared_data.parent / "models/face_landmarker.task", "fixtures/pyfeat_WolfgangLanger_Pexels.mp4"
    if not model.is_file() or not (shared_data / video).is_file():
        pytest.skip(f"no {model} or no {video}")
    aligner = open_aligner(AlignerSettings(model=model))
    both = []
    with av.open(str(shared_data / video)) as container:
        for index, picture in enumerate(container.decode(video=0)):
            if index % 4 == 0:
                sighting = aligner(Frame(Stamp(index, index / 24), picture.to_ndarray(format="rgb24")))
                if isinstance(sighting, Faces):
                    one = sighting.faces[0]
                    in_crop = template.to_crop_px(one.landmarks, one.to_crop)
                    both.append((measure(one), from_landmarks(in_crop, len(one.crop))))
    aligner.close()
    shapes, points = (np.array(part) for part in zip(*both, strict=True))
    follows = {unit.name: np.corrcoef(shapes[:, n], points[:, n])[0, 1] for n, unit in enumerate(UNITS) if unit.formula}
    assert {name for name in ("AU6+7", "AU10", "AU12", "AU16", "AU45") if follows[name] < 0.6} == set(), follows


def test_the_live_process_does_not_pay_for_the_names() -> None:
    code = (
        "import psm_stream.clusters.account, sys; print(*{'pyarrow', 'scipy', 'sklearn', 'hdbscan'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def correlations(unit: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the correlation of a unit [n] with the intensity of each expression [n, E]."""
    return np.array([np.corrcoef(unit, column)[0, 1] for column in shown.T])
