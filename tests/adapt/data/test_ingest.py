"""Making a store: the same bytes however it was made, gone on with after a cut, and nothing lost by what is broken."""

import shutil

import numpy as np
import pytest
from tests.adapt.data.conftest import some_crops

from psm_adapt.data.ingest import IngestOptions, NoWatcher, ingest
from psm_adapt.data.layouts import sources_in
from psm_adapt.data.store import open_store
from psm_adapt.data.writer import write_store
from psm_stream.errors import StoreError
from psm_stream.record.testing import fake_encoder, record_run, some_faces

AS_IS = IngestOptions(is_as_is=True, workers=1)
ALIGNED = IngestOptions(workers=1)


class Watching(NoWatcher):
    """Keeps what it is told. stop_after: raise KeyboardInterrupt after so many recordings."""

    def __init__(self, stop_after=None):
        self.todo, self.kept, self.outcomes, self.looked_at = [], None, {}, {}
        self._stop_after = stop_after

    def begin(self, sources, kept):
        self.todo, self.kept = [source.name for source in sources], kept

    def progress(self, source, looked_at, expected):
        self.looked_at[source.name] = (looked_at, expected)

    def finish(self, source, outcome):
        self.outcomes[source.name] = outcome
        if len(self.outcomes) == self._stop_after:
            raise KeyboardInterrupt


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def serial(videos, tmp_path_factory):
    """A store of all the videos, made in one go by this process, and what was told of it."""
    folder, watching = tmp_path_factory.mktemp("serial"), Watching()
    ingest(sources_in([videos], "folder"), folder, ALIGNED, watching)
    return folder, watching


def test_a_store_has_every_face_and_says_what_it_lacks(serial):
    folder, watching = serial
    store = open_store(folder)
    store.check_digests()
    assert [(r.name, r.person, r.count, r.aligner) for r in store.recordings] == [
        ("ann/1", "ann", 6, "facemesh"),
        ("ann/2", "ann", 8, "facemesh"),
        ("bob", "bob", 6, "facemesh"),
    ]
    assert [(entry.name, entry.was_read) for entry in store.about.skipped] == [("empty", True), ("torn", False)]
    assert store.about.skipped[0].reason == "no face in 3 frames"
    assert "torn.mp4 cannot be opened as a video" in store.about.skipped[1].reason
    assert store.t.tolist() == pytest.approx([n / 25 for count in (6, 8, 6) for n in range(count)])
    assert not np.isnan(store.landmarks).any()
    assert watching.looked_at == {"ann/1": (6, 6), "ann/2": (8, 8), "bob": (6, 6), "empty": (3, 3)}


def test_parallel_is_serial_to_the_byte(videos, serial, tmp_path):
    watching = Watching()
    done = ingest(sources_in([videos], "folder"), tmp_path / "store", IngestOptions(workers=3), watching)
    assert bytes_of(tmp_path / "store") == bytes_of(serial[0])
    assert watching.outcomes == serial[1].outcomes
    assert watching.looked_at == serial[1].looked_at
    assert [source.name for source, _ in done.outcomes] == watching.todo


def test_a_cut_off_run_goes_on_and_ends_in_the_same_bytes(videos, serial, tmp_path):
    sources, folder = sources_in([videos], "folder"), tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        ingest(sources, folder, ALIGNED, Watching(stop_after=1))
    with pytest.raises(StoreError, match="did not finish it; give the same command again"):
        open_store(folder)
    again = Watching()
    ingest(sources, folder, ALIGNED, again)
    assert again.todo == ["ann/2", "bob", "empty", "torn"]
    assert again.kept == 1
    assert bytes_of(folder) == bytes_of(serial[0])


def test_a_finished_run_is_not_done_again(videos, serial):
    folder, before = serial[0], bytes_of(serial[0])
    watching = Watching()
    ingest(sources_in([videos], "folder")[:3], folder, ALIGNED, watching)
    assert (watching.todo, watching.kept) == ([], 3)
    assert bytes_of(folder) == before


@pytest.fixture
def crops(tmp_path):
    """Folders of ready face crops: ann has 3, bob 2."""
    import cv2

    draw = np.random.default_rng(3)
    for name, count in (("ann", 3), ("bob", 2)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for n in range(count):
            cv2.imwrite(str(tmp_path / f"in/{name}/{n}.png"), draw.integers(0, 256, (128, 128, 3), np.uint8))
    return tmp_path / "in"


def test_adding_to_a_store_gives_what_making_it_at_once_gives(crops, tmp_path):
    ingest(sources_in([crops], "folder"), tmp_path / "once", AS_IS)
    for name in ("bob", "ann"):
        ingest(sources_in([crops / name], "folder"), tmp_path / "twice", AS_IS)
    assert bytes_of(tmp_path / "twice") == bytes_of(tmp_path / "once")


def test_a_cut_while_adding_leaves_the_store_as_it_was(crops, tmp_path):
    folder = tmp_path / "store"
    ingest(sources_in([crops / "ann"], "folder"), folder, AS_IS)
    before = open_store(folder).store_id
    with pytest.raises(KeyboardInterrupt):
        ingest(sources_in([crops], "folder"), folder, AS_IS, Watching(stop_after=1))
    assert open_store(folder).store_id == before
    watching = Watching()
    assert ingest(sources_in([crops], "folder"), folder, AS_IS, watching).store.people == ("ann", "bob")
    assert watching.todo == []


def test_a_recording_that_changed_since_the_cut_is_looked_at_again(crops, tmp_path):
    sources, folder = sources_in([crops], "folder"), tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        ingest(sources, folder, AS_IS, Watching(stop_after=1))
    shutil.copy(crops / "ann/0.png", crops / "ann/7.png")
    watching = Watching()
    assert len(ingest(sources, folder, AS_IS, watching).store) == 6
    assert watching.todo == ["ann", "bob"]


def test_crops_as_they_are_come_out_as_they_went_in(crops, tmp_path):
    import cv2

    store = ingest(sources_in([crops], "folder"), tmp_path / "store", AS_IS).store
    for row, name in enumerate(("ann/0", "ann/1", "ann/2", "bob/0", "bob/1")):
        np.testing.assert_array_equal(store.crops[row], cv2.imread(str(crops / f"{name}.png"))[..., ::-1])
    assert store.about.making.template == "as-is"
    assert store.recordings[0].aligner == "as-is"


def test_sessions_and_their_blendshapes(tmp_path):
    encoder = fake_encoder(tmp_path / "bundles", "0123456789ab")
    items = [some_faces(n, size_px=128, rich=n >= 17) for n in range(40)]
    folder = record_run(tmp_path / "root", encoder, items)
    store = ingest(sources_in([folder], "session", person="ann"), tmp_path / "store", ALIGNED).store
    faces = [item.faces[0] for item in items]
    np.testing.assert_array_equal(store.crops, [face.crop for face in faces])
    assert store.blendshapes is not None
    assert np.isnan(store.blendshapes[:17]).all()
    np.testing.assert_array_equal(store.blendshapes[17:], [face.blendshapes for face in faces[17:]])
    np.testing.assert_array_equal(store.confidence, np.array([face.confidence for face in faces], np.float32))
    assert store.recordings[0].kind == "session"


def test_a_session_without_blendshapes_says_so_where_they_were_asked_for(tmp_path):
    """Others of the store have them; it cannot be looked at again."""
    encoder, model = fake_encoder(tmp_path / "bundles", "0123456789ab"), tmp_path / "face.task"
    model.write_bytes(b"not opened for a session")
    said = []
    for name, rich in (("bare", False), ("rich", True)):
        folder = record_run(tmp_path / name, encoder, [some_faces(n, size_px=128, rich=rich) for n in range(3)])
        for options in (ALIGNED, IngestOptions(workers=1, landmarker=model)):
            (one,) = ingest(sources_in([folder], "session"), tmp_path / f"store{len(said)}", options).outcomes
            said.append(one[1].trouble)
            assert one[1].was_read
    assert said == ["", said[1], "", ""]
    assert said[1].endswith("record with --aligner.name landmarker")


def test_a_session_that_was_cut_off_is_read_up_to_the_cut(tmp_path):
    encoder = fake_encoder(tmp_path / "bundles", "0123456789ab")
    folder = record_run(tmp_path / "root", encoder, [some_faces(n, size_px=128) for n in range(3)])
    (folder / "info.json").write_text((folder / "info.json").read_text().replace('"finished": {', '"x": {'))
    log = folder / "session.mcap"
    log.write_bytes(log.read_bytes()[:-40])
    watching = Watching()
    store = ingest(sources_in([folder], "session", person="ann"), tmp_path / "store", ALIGNED, watching).store
    assert len(store) == 3
    assert "is cut off" in store.recordings[0].note
    assert [outcome.trouble for outcome in watching.outcomes.values()] == [store.recordings[0].note]


def test_what_was_made_in_another_way_is_not_added_to(crops, tmp_path):
    folder = tmp_path / "store"
    ingest(sources_in([crops / "ann"], "folder"), folder, AS_IS)
    with pytest.raises(StoreError, match="was made with every 1 and not 2; do the same, or name another folder"):
        ingest(sources_in([crops / "bob"], "folder"), folder, IngestOptions(is_as_is=True, every=2, workers=1))


def test_two_files_of_one_name_are_told_apart(crops, tmp_path):
    folder = tmp_path / "store"
    ingest(sources_in([crops / "ann"], "folder"), folder, AS_IS)
    shutil.copytree(crops / "bob", tmp_path / "other/ann")
    with pytest.raises(StoreError, match="has a recording 'ann' from another file than"):
        ingest(sources_in([tmp_path / "other/ann"], "folder"), folder, AS_IS)
    with pytest.raises(StoreError, match="has 'ann' as 'ann', not 'eve'"):
        ingest(sources_in([crops / "ann"], "folder", person="eve"), folder, AS_IS)


def test_nothing_usable_is_an_error_that_says_why(videos, tmp_path):
    with pytest.raises(StoreError, match=r"no recording gave a crop: torn: .*torn\.mp4 cannot be opened"):
        ingest(sources_in([videos / "torn.mp4"], "folder"), tmp_path / "store", ALIGNED)
    with pytest.raises(StoreError, match="no recording gave a crop: empty: no face in 3 frames"):
        ingest(sources_in([videos / "empty.mp4"], "folder"), tmp_path / "store", ALIGNED)


def test_choices_that_contradict_each_other(crops, tmp_path):
    sources = sources_in([crops], "folder")
    with pytest.raises(StoreError, match="leave out one of --as-is and --landmarker"):
        ingest(sources, tmp_path / "s", IngestOptions(is_as_is=True, landmarker=tmp_path / "x"))
    with pytest.raises(StoreError, match=r"cannot read the Face Landmarker model .*psm-doctor --fetch-models"):
        ingest(sources, tmp_path / "s", IngestOptions(landmarker=tmp_path / "x"))


def test_a_store_that_cannot_be_written_ends_the_run(crops, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="make room or name another folder"):
        ingest(sources_in([crops], "folder"), tmp_path / "file", AS_IS)


def test_adds_to_a_store_that_was_written_by_a_program(crops, tmp_path):
    from psm_adapt.data.store import Making

    write_store(tmp_path / "store", [some_crops("drawn", "zoe", 2)], Making(template="as-is"))
    store = ingest(sources_in([crops], "folder"), tmp_path / "store", AS_IS).store
    assert store.people == ("ann", "bob", "zoe")
    np.testing.assert_array_equal(store.crops[5:], some_crops("drawn", "zoe", 2).arrays["crops"])
