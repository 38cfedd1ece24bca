"""The demo: the same for the same seed, and true to its labels as MediaPipe FaceMesh measures the face it shows."""

import hashlib
import importlib.util
import itertools
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError
from psm_stream.sources import Picture
from psm_stream.sources.demo import EXPRESSIONS, NEUTRAL, DemoSource, Expression, parse_label
from psm_stream.sources.demo_script import ROUND_S, expression_at, head_pose_at
from psm_stream.testing import ManualClock

STRETCH_FPS = 15.0
STRETCH_FRAMES = int(2 * ROUND_S * STRETCH_FPS)


def opened(clock: ManualClock | None = None, **settings: object) -> DemoSource:
    source = DemoSource(SourceSettings.model_validate(settings), clock or ManualClock())
    source.open()
    return source


def pictures(count: int, **settings: object) -> list[Picture]:
    source = opened(**settings)
    return [source.read() for _ in range(count)]


# --- the script


@pytest.mark.parametrize("seed", range(20))
def test_every_round_shows_every_expression(seed: int) -> None:
    for number in range(3):
        times = np.arange(number * ROUND_S, (number + 1) * ROUND_S, 1 / 30)
        strongest = dict.fromkeys((NEUTRAL, *EXPRESSIONS), 0.0)
        for expression in (expression_at(seed, t) for t in times):
            strongest[expression.name] = max(strongest[expression.name], expression.intensity)
        assert strongest.pop(NEUTRAL) == 0.0
        assert set(strongest) == set(EXPRESSIONS)
        assert all(0.4 <= peak <= 1.0 for peak in strongest.values())


def test_expressions_come_and_go_smoothly_with_neutral_between() -> None:
    script = [expression_at(3, t) for t in np.arange(0, 5 * ROUND_S, 1 / 240)]
    for before, after in itertools.pairwise(script):
        assert abs(after.intensity - before.intensity) < 0.1
        assert before.name == after.name or NEUTRAL in (before.name, after.name)


def test_another_seed_is_another_script() -> None:
    scripts = {tuple(expression_at(seed, t).label for t in np.arange(0, ROUND_S, 0.1)) for seed in range(10)}
    assert len(scripts) == 10


def test_the_head_moves_a_little_and_without_jumps() -> None:
    poses = np.array(
        [(p.right, p.down, p.roll, p.zoom - 1) for p in (head_pose_at(0, t) for t in np.arange(0, 60, 1 / 30))]
    )
    assert np.all(np.ptp(poses, axis=0) > [0.03, 0.02, 0.03, 0.01])
    assert np.all(np.abs(poses).max(axis=0) < [0.06, 0.04, 0.08, 0.03])
    assert np.all(np.abs(np.diff(poses, axis=0)).max(axis=0) < [0.005, 0.003, 0.006, 0.002])


# --- labels


def test_a_label_reads_back() -> None:
    assert Expression("smile", 0.617).label == "smile 0.62"
    assert parse_label("smile 0.62") == Expression("smile", 0.62)
    assert parse_label("neutral 0.00") == Expression(NEUTRAL, 0.0)
    assert Expression("blink", 0.004).label == "neutral 0.00"


@pytest.mark.parametrize("label", ["", "smile", "frown 0.50", "smile much", "smile 1.50", "smile nan", "smile -0.1"])
def test_a_foreign_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="not a label of the demo"):
        parse_label(label)


def test_labels_are_the_script() -> None:
    for index, picture in enumerate(pictures(90, seed=5, fps=9.0, width=160, height=120)):
        assert picture.label == expression_at(5, index / 9.0).label


# --- the source


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (pictures(120, seed=4, fps=12.0) for _ in range(2))
    assert {parse_label(picture.label).name for picture in first} == {NEUTRAL, *EXPRESSIONS}
    assert [p.image.tobytes() for p in first] == [p.image.tobytes() for p in second]
    assert [(p.t_source, p.label) for p in first] == [(p.t_source, p.label) for p in second]


def test_another_seed_gives_another_picture() -> None:
    assert not np.array_equal(pictures(1, seed=0)[0].image, pictures(1, seed=1)[0].image)


def test_no_frame_repeats() -> None:
    digests = {hashlib.sha256(picture.image).digest() for picture in pictures(1500, width=160, height=120)}
    assert len(digests) == 1500


def test_opening_again_starts_again() -> None:
    source = opened(seed=2)
    before = [source.read() for _ in range(3)]
    source.close()
    source.close()
    source.open()
    after = [source.read() for _ in range(3)]
    assert all(
        np.array_equal(a.image, b.image) and a.t_source == b.t_source for a, b in zip(before, after, strict=True)
    )


def test_times_and_rate() -> None:
    clock = ManualClock(50.0)
    source = opened(clock, fps=25.0)
    source.read()
    clock.advance(0.5)
    picture = source.read()
    assert (picture.t_source, picture.t_capture) == (1 / 25, 50.5)
    assert (source.fps, source.is_live, source.name) == (25.0, False, "demo")
    assert opened().fps == 30.0


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1280, 720), (481, 643), (160, 120), (1500, 300)])
def test_the_size_is_as_asked(width: int, height: int) -> None:
    image = pictures(1, width=width, height=height)[0].image
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)


def test_the_default_size() -> None:
    assert pictures(1)[0].image.shape == (480, 640, 3)


def test_reading_before_opening_is_an_error() -> None:
    source = DemoSource(SourceSettings(), ManualClock())
    with pytest.raises(SourceError, match="open"):
        source.read()


def test_too_small_a_frame_is_an_error() -> None:
    with pytest.raises(SourceError, match="at least 160x120"):
        opened(width=80, height=60)


def test_a_missing_photograph_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ModuleSpec("skimage", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(SourceError, match="reinstall scikit-image"):
        opened()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "astronaut.png").write_bytes(b"another picture")
    with pytest.raises(SourceError, match="not the one expected"):
        opened()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SourceError, match="pip install scikit-image"):
        opened()


def test_it_starts_without_the_slow_imports() -> None:
    code = (
        "import sys, time;"
        "from psm_stream.config import SourceSettings;"
        "from psm_stream.sources.demo import DemoSource;"
        "demo = DemoSource(SourceSettings(), time.monotonic); demo.open(); demo.read();"
        "print(sorted({'skimage', 'scipy', 'mediapipe', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


# --- what FaceMesh sees: each expression's own measure, as a share of the distance between the eyes' outer corners

LEFT_EYE, RIGHT_EYE = (33, 263)
LIDS = ((159, 145), (158, 153), (160, 144), (386, 374), (385, 380), (387, 373))
BROWS = ((105, 33, 133), (66, 33, 133), (334, 263, 362), (296, 263, 362))


def measure(points: np.ndarray) -> dict[str, float]:
    """points: [478, 2] px."""
    across = points[RIGHT_EYE] - points[LEFT_EYE]
    unit = np.linalg.norm(across)
    up = np.array([across[1], -across[0]]) / unit
    return {
        "blink": -float(np.mean([np.linalg.norm(points[a] - points[b]) for a, b in LIDS])) / unit,
        "brow_raise": float(np.mean([(points[b] - (points[c] + points[d]) / 2) @ up for b, c, d in BROWS])) / unit,
        "smile": float(np.linalg.norm(points[61] - points[291])) / unit,
        "jaw_drop": float(np.linalg.norm(points[13] - points[14])) / unit,
    }


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value; equal ones share their mean rank."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2


@pytest.fixture(scope="module")
def seen() -> tuple[list[Expression], dict[str, np.ndarray]]:
    """True expressions of two rounds, and what FaceMesh measures of each: [frames] per expression."""
    import mediapipe as mp

    source = opened(fps=STRETCH_FPS, seed=2)
    truth, measures = [], []
    with mp.solutions.face_mesh.FaceMesh(refine_landmarks=True) as mesh:
        for _ in range(STRETCH_FRAMES):
            picture = source.read()
            found = mesh.process(picture.image).multi_face_landmarks
            assert found, f"FaceMesh lost the face at {picture.t_source:.2f} s, {picture.label}"
            height, width, _ = picture.image.shape
            measures.append(measure(np.array([(p.x * width, p.y * height) for p in found[0].landmark])))
            truth.append(parse_label(picture.label))
    return truth, {name: np.array([each[name] for each in measures]) for name in EXPRESSIONS}


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.filterwarnings("ignore:SymbolDatabase.GetPrototype:UserWarning")
def test_facemesh_sees_what_the_label_says(name: str, seen: tuple[list[Expression], dict[str, np.ndarray]]) -> None:
    truth, measures = seen
    measured = measures[name]
    is_neutral = np.array([each.name == NEUTRAL for each in truth])
    is_shown = np.array([each.name == name for each in truth])
    intensity = np.array([each.intensity for each in truth])
    assert np.corrcoef(intensity[is_shown], measured[is_shown])[0, 1] > 0.9
    assert np.corrcoef(ranks(intensity[is_shown]), ranks(measured[is_shown]))[0, 1] > 0.8
    at_apex = measured[is_shown & (intensity > 0.8 * intensity[is_shown].max())]
    change = at_apex.mean() - measured[is_neutral].mean()
    assert change > 8 * measured[is_neutral].std()
    others = measured[~is_neutral & ~is_shown] - measured[is_neutral].mean()
    assert np.percentile(np.abs(others), 95) < 0.4 * change
