"""OpenFace's tables: both ages, found by name, read, and refused with the place that is wrong."""

from pathlib import Path

import pytest
from tests.adapt.evaluate.conftest import recorded

from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.openface_labels import is_openface, openface_tables
from psm_stream.errors import AdaptationError

HEADER = "frame,face_id,timestamp,confidence,success,AU01_r,AU12_r,AU12_c,AU28_c"
ROWS = (
    "1,0,0.000,0.98,1,0.00,1.01,0,1",
    "2,0,0.033,0.98,1,2.50,0.99,1,0",
    "3,0,0.067,0.79,1,2.50,3.00,1,1",  # not sure
    "4,0,0.100,0.98,0,0.00,0.00,0,0",  # no success
)


def table(path: Path, rows=ROWS, separator: str = ",", header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]).replace(",", separator) + "\n")
    return path


@pytest.fixture
def clips(make_store):
    return clips_of([make_store(recorded("ann/1", "ann", 4), recorded("ann/2", "ann", 4), recorded("b", "bob", 4))])


@pytest.mark.parametrize("separator", [",", ", "])
def test_a_table_of_either_age(tmp_path, clips, separator):
    path = table(tmp_path / "x.csv", separator=separator)
    assert is_openface(path)
    units, (read,) = openface_tables(path, clips[:1])
    assert units == ("AU1", "AU12", "AU28")  # presence alone where there is no intensity
    assert read.labels.tolist()[:2] == [[False, True, True], [True, False, False]]
    assert read.is_sure.tolist() == [True, True, False, False]
    assert read.numbers.tolist() == [1, 2, 3, 4]


def test_tables_without_confidence_are_sure(tmp_path, clips):
    path = table(tmp_path / "x.csv", ["1,2.0", "2,0.0"], header="frame,AU01_r")
    assert openface_tables(path, clips[:1])[1][0].is_sure.all()


@pytest.mark.parametrize(
    "names", [("ann/1", "ann/2", "b"), ("1", "2", "b"), ("ann_1", "ann_2", "bob"), ("1", "ann/2", "b")]
)
def test_tables_are_found_by_name(tmp_path, clips, names):
    for number, name in enumerate(names):
        table(tmp_path / f"{name}.csv", [f"1,0,0,1,1,{number},0,0,0"])
    assert is_openface(tmp_path)
    _, tables = openface_tables(tmp_path, clips)
    assert [bool(one.labels[0, 0]) for one in tables] == [False, False, True]


def test_a_recording_without_a_table(tmp_path, clips):
    table(tmp_path / "1.csv")
    table(tmp_path / "ann.csv")  # there are two recordings of ann, so it is for neither
    with pytest.raises(AdaptationError, match=r"no table for recording 'ann/2'; expected 2.csv"):
        openface_tables(tmp_path, clips)


def test_one_table_for_several_recordings(tmp_path, clips):
    with pytest.raises(AdaptationError, match="is one table, there are 3 recordings"):
        openface_tables(table(tmp_path / "x.csv"), clips)


def test_tables_with_other_columns(tmp_path, clips):
    table(tmp_path / "1.csv")
    table(tmp_path / "2.csv", ["1,2.0"], header="frame,AU01_r")
    table(tmp_path / "b.csv")
    with pytest.raises(AdaptationError, match=r"2.csv has columns for AU1, .*1.csv for AU1, AU12, AU28"):
        openface_tables(tmp_path, clips)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("frame,x", ["1,2"], "is no table of OpenFace"),
        ("AU01_r", ["1"], "is no table of OpenFace"),
        ("frame,AU01_r", [], "a header and no rows"),
        ("frame,AU01_r", ["1,0", "2"], "line 3: 1 values, the header names 2; is it cut off"),
        ("frame,AU01_r", ["1,what"], "what"),
        ("frame,AU01_r", ["nan,1"], "a frame has no number"),
        ("frame,AU01_r", ["1,0", "1,0"], "a table of one face is expected"),
    ],
)
def test_damaged_tables(tmp_path, clips, header, rows, message):
    path = table(tmp_path / "x.csv", rows, header=header)
    with pytest.raises(AdaptationError, match=message) as raised:
        openface_tables(path, clips[:1])
    assert "x.csv" in str(raised.value)


def test_an_empty_file_is_no_table(tmp_path, clips):
    (tmp_path / "x.csv").touch()
    with pytest.raises(AdaptationError, match="is no table of OpenFace"):
        openface_tables(tmp_path / "x.csv", clips[:1])
