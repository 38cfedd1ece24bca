"""Layouts: who and what is found where, and what is said when it is laid out in another way."""

import json
from pathlib import Path

import pytest

from psm_adapt.data.layouts import LAYOUTS, sources_in
from psm_stream.errors import StoreError
from psm_stream.record.testing import fake_encoder, record_run, some_faces


@pytest.fixture
def tree(tmp_path):
    """Make empty files by their paths; returns the folder."""

    def make(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        return tmp_path

    return make


def found(place, layout, **options):
    return [(source.name, source.person, source.kind) for source in sources_in([place], layout, **options)]


def test_folder_takes_a_video_or_a_sub_folder_per_person(tree):
    place = tree(
        "ann.mp4", "bob/2.avi", "bob/10.avi", "bob/stills/a.png", "eve/frame1.jpg", "notes.txt", ".hidden/x.mp4"
    )
    assert found(place, "folder") == [
        ("ann", "ann", "video"),
        ("bob/2", "bob", "video"),
        ("bob/10", "bob", "video"),
        ("bob/stills", "bob", "images"),
        ("eve", "eve", "images"),
    ]


def test_folder_takes_a_single_video_and_a_single_folder_of_images(tree):
    place = tree("a/ann.MOV", "b/1.jpg")
    assert found(place / "a/ann.MOV", "folder") == [("ann", "ann", "video")]
    assert found(place / "b", "folder") == [("b", "b", "images")]


def test_all_can_be_of_one_person(tree):
    place = tree("monday.mp4", "tuesday.mp4")
    assert found(place, "folder", person="ann") == [("monday", "ann", "video"), ("tuesday", "ann", "video")]


def test_names_stay_apart(tree):
    place = tree("one/ann.mp4", "one/ann.avi", "two/ann.mp4")
    assert [name for name, _, _ in found(place / "one", "folder")] == ["ann.avi", "ann.mp4"]
    both = sources_in([place / "two", place / "one/ann.mp4"], "folder")
    assert [source.name for source in both] == ["ann", "ann/ann"]
    with pytest.raises(StoreError, match="'two/ann' is there twice"):
        sources_in([place / "two"] * 3, "folder")


def test_disfa_videos(tree):
    place = tree(
        "Videos_LeftCamera/LeftVideoSN002_comp.avi",
        "Videos_LeftCamera/LeftVideoSN001_comp.avi",
        "Video_RightCamera/RightVideoSN001_Comp.avi",
        "ActionUnit_Labels/SN001/SN001_au1.txt",
    )
    expected = [("LeftVideoSN001_comp", "SN001", "video"), ("LeftVideoSN002_comp", "SN002", "video")]
    assert found(place, "disfa") == expected
    assert found(place / "Videos_LeftCamera", "disfa") == expected
    assert found(place / "Video_RightCamera", "disfa") == [("RightVideoSN001_Comp", "SN001", "video")]


def test_disfa_frames_as_psm_keeps_them(tree):
    place = tree("SN001/face_only_aligned/frame10.jpg", "SN001/face_only_aligned/frame9.jpg", "SN002/other/frame1.jpg")
    (source,) = sources_in([place], "disfa")
    assert (source.name, source.person, source.kind) == ("SN001/face_only_aligned", "SN001", "images")
    assert source.fps == 20
    assert source.is_numbered


def test_voxceleb_frames_and_videos(tree):
    place = tree(
        "id10002/abc/00001/0000025.jpg",
        "id10001/xyz/0000001.jpg",
        "id10001/vid/00002.mp4",
        "A_Name/1.6/clip/7/0000001.jpg",
    )
    sources = sources_in([place], "voxceleb")
    assert [(source.name, source.person, source.kind) for source in sources] == [
        ("A_Name/1.6/clip/7", "A_Name", "images"),
        ("id10001/vid/00002", "id10001", "video"),
        ("id10001/xyz", "id10001", "images"),
        ("id10002/abc/00001", "id10002", "images"),
    ]
    assert [source.is_numbered for source in sources] == [True, False, True, True]


@pytest.mark.parametrize(
    ("tracks", "people"),
    [
        (["vox/id10001/a/1", "vox/id10002/b/1"], ["id10001", "id10002"]),
        (["frames/Ann/1.6/a/1", "frames/Bob/1.6/a/2"], ["Ann", "Bob"]),
        (["d/SN001/face_only_aligned", "d/SN002/face_only_aligned"], ["SN001", "SN002"]),
        (["d/ann/track", "d/bob/track"], ["ann", "bob"]),
    ],
)
def test_lists_of_tracks(tree, tracks, people):
    place = tree(*(f"{track}/1.jpg" for track in tracks))
    (place / "list.txt").write_text("\n".join(tracks * 3) + "\n")
    sources = sources_in([place / "list.txt"], "voxceleb")
    assert [source.person for source in sources] == people
    assert [source.path for source in sources] == [place / track for track in tracks]


def test_a_list_with_a_missing_track_is_refused(tree):
    place = tree("id10001/a/1/1.jpg")
    (place / "list.txt").write_text("id10001/a/1\nid10001/a/2\n")
    with pytest.raises(StoreError, match=r"lists .*id10001/a/2, where there are no images; 1 of 2"):
        sources_in([place / "list.txt"], "voxceleb")


def test_a_session_of_another_template_is_no_source(tmp_path):
    folder = record_run(
        tmp_path / "root", fake_encoder(tmp_path / "bundles", "0123456789ab"), [some_faces(0, size_px=128)]
    )
    told = json.loads((folder / "info.json").read_text())
    told["config"]["aligner"] = {"template": {"name": "wide", "eye_distance": 0.25, "eye_line_y": 0.45}}
    (folder / "info.json").write_text(json.dumps(told))
    with pytest.raises(StoreError, match=r"its crops are by wide .*; a store holds crops by eyes-level-1"):
        sources_in([folder], "session")


def test_sessions(tmp_path):
    encoder = fake_encoder(tmp_path / "bundles", "0123456789ab")
    folder = record_run(tmp_path / "root", encoder, [some_faces(0, size_px=128)])
    for place in (folder, folder.parent, tmp_path / "root"):
        ((name, person, kind),) = found(place, "session")
        assert (name, kind) == (f"{folder.parent.name}/001", "session")
        assert person.startswith("session-")
    with pytest.raises(StoreError, match="is a recorded session; read sessions with --layout session"):
        sources_in([tmp_path / "root"], "folder")


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("folder", "expected one sub-folder or video per person"),
        ("disfa", "LeftVideoSN001_comp.avi"),
        ("voxceleb", "id10001/<video>/<track>"),
        ("session", "<date>/<number>/info.json"),
    ],
)
def test_another_layout_is_one_line_that_says_what_was_expected(tree, layout, expected):
    place = tree("readme.txt", "empty/notes.md")
    with pytest.raises(StoreError) as caught:
        sources_in([place], layout)
    assert expected in str(caught.value)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_place_that_is_not_there(layout):
    with pytest.raises(StoreError, match="there is no nowhere; name a folder"):
        sources_in([Path("nowhere")], layout)


def test_a_file_of_another_kind(tree):
    with pytest.raises(StoreError, match=r"notes\.txt is no video"):
        sources_in([tree("notes.txt") / "notes.txt"], "folder")
