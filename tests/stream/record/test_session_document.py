"""docs/session.md is true: its tables name what the program writes, and its example reads it."""

import re
from pathlib import Path

import numpy as np
import pytest

from psm_stream.export_columns import POSE, Shape, columns
from psm_stream.export_table import MARKER_COLUMNS
from psm_stream.record import codec, writer
from psm_stream.record.reader import Session
from psm_stream.record.session import Finish, SessionInfo
from psm_stream.record.testing import fake_encoder, record_run, some_faces
from psm_stream.verify import COMPARED

DOCUMENT = Path(__file__).parents[3] / "docs" / "session.md"


@pytest.fixture(scope="module")
def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def first_column(text: str, heading: str) -> list[str]:
    """The code words in the first column of the table whose header row begins with `heading`."""
    table = text.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [word for row in table.splitlines()[2:] for word in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_info_keys(text):
    fields = [field.alias or name for name, field in SessionInfo.model_fields.items()]
    assert sorted(first_column(text, "key")) == sorted(fields)
    row = next(line for line in text.splitlines() if line.startswith("| `finished`"))
    assert re.findall(r"`([^`]+)`", row.split("|")[2]) == list(Finish.model_fields)


def test_channels(text):
    assert sorted(first_column(text, "channel")) == sorted(codec._TOPICS.values())


def test_columns(text):
    names = columns(Shape(landmarks=478, dimension=256, blendshapes=52, has_pose=True)).names
    documented = first_column(text, "column")
    assert set(documented) <= set(names)
    places = [names.index(name) for name in documented]
    assert places == sorted(places)
    numbered = re.compile(r"(x|y|emb)_\d+")
    plain = {name for name in names[: names.index("_neutral")] if not numbered.fullmatch(name)}
    assert plain <= set(documented)
    assert set(POSE) <= set(documented)


def test_marker_columns(text):
    end = text[text.index("`markers.csv` has the markers") :]
    assert re.findall(r"`([^`]+)`", end)[1:] == list(MARKER_COLUMNS)


def test_numbers(text):
    bound = writer.LIVE_BOUND
    assert f"Every {writer.FLUSH_S:g} s" in text
    assert f"Up to {bound.items} records or {bound.size_bytes >> 20} MB" in text
    for kind in COMPARED:
        assert f"`{kind}`" in text


def test_the_example_reads_a_session(text, tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope: dict = {}
    exec(example, scope)
    encoder = fake_encoder(tmp_path / "bundles", "111111111111")
    faces = [some_faces(index, (0, 1)) for index in range(3)]
    folder = record_run(tmp_path, encoder, faces)
    read = list(scope["read"](Session(folder).folder / "session.mcap"))
    crops = [(index, array) for kind, index, array in read if kind == "crop"]
    vectors = [(index, array) for kind, index, array in read if kind == "embedding"]
    expected = [face for sighting in faces for face in sighting.faces]
    assert [index for index, _ in crops] == [index for index, _ in vectors] == [face.frame.index for face in expected]
    for face, (_, crop), (_, vector) in zip(expected, crops, vectors, strict=True):
        assert np.array_equal(crop, face.crop)
        assert np.array_equal(vector, encoder.encode(face.crop))
