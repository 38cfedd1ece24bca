"""DISFA's label files: found in each of their layouts, read, and refused with the place that is wrong."""

from pathlib import Path

import pytest
from tests.adapt.evaluate.conftest import recorded

from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.disfa_labels import disfa_tables, is_disfa
from psm_stream.errors import AdaptationError


def write(folder: Path, person: str, **units: list[int]) -> Path:
    """Write intensities as DISFA does. units: au1=[...]."""
    folder.mkdir(parents=True, exist_ok=True)
    for unit, intensities in units.items():
        lines = "".join(f"{number},{intensity}\r\n" for number, intensity in enumerate(intensities, 1))
        (folder / f"{person}_{unit}.txt").write_text(lines)
    return folder


@pytest.fixture
def clips(make_store):
    return clips_of([make_store(recorded("LeftVideoSN001_comp", "SN001", 4), recorded("other", "SN002", 4))])


@pytest.mark.parametrize("layout", ["ActionUnit_Labels/{}", "{}", "."])
def test_every_place_of_the_files(tmp_path, clips, layout):
    for person in ("SN001", "SN002", "SN031"):
        write(tmp_path / "labels" / layout.format(person), person, au12=[0, 1, 2, 5], au1=[2, 1, 0, 0])
    place = tmp_path / "labels"
    assert is_disfa(place)
    units, tables = disfa_tables(place, clips)
    assert units == ("AU1", "AU12")
    assert len(tables) == 2
    assert tables[0].labels.tolist() == [[True, False], [False, False], [False, True], [False, True]]
    assert tables[0].numbers.tolist() == [1, 2, 3, 4]
    assert tables[0].is_sure.all()


def test_other_folders_are_not_disfa(tmp_path):
    (tmp_path / "notes.txt").write_text("1,2")
    assert not is_disfa(tmp_path)
    assert not is_disfa(tmp_path / "notes.txt")


def test_a_person_without_labels(tmp_path, clips):
    write(tmp_path / "SN001", "SN001", au1=[0])
    with pytest.raises(AdaptationError, match=r"has none for SN002; there are labels for SN001$"):
        disfa_tables(tmp_path, clips)


def test_other_action_units(tmp_path, clips):
    write(tmp_path / "SN001", "SN001", au1=[0], au2=[0])
    write(tmp_path / "SN002", "SN002", au1=[0])
    with pytest.raises(AdaptationError, match=r"SN002 has action units \[1\], SN001 has \[1, 2\]"):
        disfa_tables(tmp_path, clips)


def test_files_of_different_length(tmp_path, clips):
    write(tmp_path / "SN001", "SN001", au1=[0, 1], au2=[0])
    write(tmp_path / "SN002", "SN002", au1=[0, 1], au2=[0, 1])
    with pytest.raises(AdaptationError, match=r"SN001_au2.txt labels 1 frames, .*SN001_au1.txt labels 2"):
        disfa_tables(tmp_path, clips)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,0\n2;3\n", r"line 2: expected 'frame,intensity' as in 12,3, got '2;3'"),
        ("1,6\n", "line 1"),
        ("1,-1\n", "line 1"),
        ("1,2.5\n", "line 1"),
        ("\n\n", "is empty"),
        ("1,0\n1,0\n", "do not increase"),
        (b"\xff\xfe\x00", "cannot read"),
    ],
)
def test_damaged_files(tmp_path, make_store, text, message):
    clips = clips_of([make_store(recorded("a", "SN001", 2))])
    folder = write(tmp_path / "SN001", "SN001", au1=[0])
    (folder / "SN001_au1.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AdaptationError, match=message) as raised:
        disfa_tables(tmp_path, clips)
    assert "SN001_au1.txt" in str(raised.value)
