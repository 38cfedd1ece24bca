"""Crop stores: what is written is read, and what is wrong is one line."""

import json
import pickle

import numpy as np
import pytest
from tests.adapt.data.conftest import some_crops

from psm_adapt.data.store import STORE, open_store
from psm_adapt.data.writer import write_store
from psm_stream.errors import StoreError


def test_what_is_written_is_read(tmp_path, rng):
    landmarks = rng.normal(64, 20, (3, 478, 2)).astype(np.float32)
    given = [
        some_crops("a/1", "ann", 4),
        some_crops("b/1", "bob", 3, landmarks=landmarks, t=np.array([0.0, 0.5, 2.0]), segment=np.array([0, 0, 1])),
    ]
    write_store(tmp_path / "store", given)
    store = open_store(tmp_path / "store")
    assert len(store) == 7
    np.testing.assert_array_equal(store.crops[4:], given[1].arrays["crops"])
    np.testing.assert_array_equal(store.landmarks[4:], landmarks)
    assert np.isnan(store.landmarks[:4]).all()
    assert store.t.tolist() == [0.0, 0.04, 0.08, 0.12, 0.0, 0.5, 2.0]
    assert store.recording.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert store.segment.tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert store.blendshapes is None
    store.check_digests()


def test_blendshapes_of_one_recording_leave_the_others_nan(tmp_path, rng):
    shapes = rng.random((2, 52)).astype(np.float32)
    store = write_store(tmp_path, [some_crops("a", "ann", 2, blendshapes=shapes), some_crops("b", "bob", 1)])
    assert store.blendshapes is not None
    np.testing.assert_array_equal(store.blendshapes[:2], shapes)
    assert np.isnan(store.blendshapes[2]).all()


def test_rows_by_person_and_recording(make_store):
    store = make_store(("a1", "ann", 2), ("b1", "bob", 3), ("a2", "ann", 1))
    assert store.people == ("ann", "bob")
    assert store.rows(people=["ann"]).tolist() == [0, 1, 5]
    assert store.rows(recordings=["b1", "a2"]).tolist() == [2, 3, 4, 5]
    assert store.rows(people=["ann"], recordings=["a2", "b1"]).tolist() == [5]
    assert store.rows().tolist() == list(range(6))
    assert store.person.tolist() == [0, 0, 1, 1, 1, 0]
    assert [store.person_of(row) for row in (0, 4, 5)] == ["ann", "bob", "ann"]


def test_unknown_names_are_errors_that_name_the_nearest(make_store):
    store = make_store(("a1", "ann", 2), ("b1", "bob", 3))
    with pytest.raises(StoreError, match=r"no person 'anne'; there is ann$"):
        store.rows(people=["anne"])
    with pytest.raises(StoreError, match="no recording 'zz'; there is a1, b1"):
        store.rows(recordings=["zz"])


def test_reads_selected_rows_in_their_order(make_store):
    store = make_store(("a1", "ann", 5))
    rows = np.array([4, 0, 0])
    images = store.images(rows)
    assert images.shape == (3, 128, 128, 3)
    np.testing.assert_array_equal(images.numpy(), np.asarray(store.crops)[rows])
    images[0, 0, 0, 0] += 1  # a copy: the store is not changed, nor does it refuse
    assert isinstance(store.crops, np.memmap)
    assert not store.crops.flags.writeable


def test_goes_to_another_process_by_its_folder(make_store):
    store = make_store(("a1", "ann", 30))
    packed = pickle.dumps(store)
    assert len(packed) < 1000
    assert pickle.loads(packed).store_id == store.store_id


def test_the_same_content_gives_the_same_bytes_and_id(make_store):
    one, other = make_store(("a1", "ann", 3), folder="one"), make_store(("a1", "ann", 3), folder="other")
    assert [path.name for path in sorted(one.folder.iterdir())] == [p.name for p in sorted(other.folder.iterdir())]
    for path in one.folder.iterdir():
        assert path.read_bytes() == (other.folder / path.name).read_bytes(), path.name
    assert one.store_id == other.store_id
    assert one.store_id != make_store(("a2", "ann", 3), folder="third").store_id


def test_writes_in_the_place_of_another(make_store, tmp_path, rng):
    shapes = rng.random((2, 52)).astype(np.float32)
    write_store(tmp_path / "store", [some_crops("old", "ann", 2, blendshapes=shapes)])
    store = make_store(("new", "bob", 3))
    assert store.people == ("bob",)
    assert not (store.folder / "blendshapes.npy").exists()


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="none of 1 recordings has a face"):
        write_store(tmp_path, [some_crops("a", "ann", 0)])


def _edit(change):
    def damage(folder):
        about = json.loads((folder / STORE).read_text())
        change(about)
        (folder / STORE).write_text(json.dumps(about))

    return damage


def _cut(name, count):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-count])

    return damage


def _save(name, array):
    return lambda folder: np.save(folder / name, array)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / STORE).write_text("{"), "store.json is no JSON"),
        (_edit(lambda about: about.update(schema=2)), "has schema 2, this psm-adapt reads 1; install a newer one"),
        (_edit(lambda about: about.update(colour="BGR")), "store.json: colour: Extra inputs"),
        (_edit(lambda about: about["recordings"][1].update(start=1)), "do not follow each other"),
        (_edit(lambda about: about["recordings"][1].update(count=9)), r"npy: it is uint8 \[5, "),
        (_edit(lambda about: about.update(people=["ann", "eve"])), "are not those of its recordings"),
        (_edit(lambda about: about["recordings"][1].update(name="a1")), "have one name"),
        (_edit(lambda about: about["arrays"].pop("t")), "lacks the array t"),
        (_edit(lambda about: about["arrays"].update(x="0" * 64)), "names an unknown array x"),
        (lambda folder: (folder / "t.npy").unlink(), "t.npy: No such file"),
        (_cut("crops.npy", 1), "crops.npy: "),
        (lambda folder: (folder / "landmarks.npy").write_bytes(b""), "landmarks.npy: "),
        (_save("t.npy", np.zeros(5, np.float32)), "t.npy: it is float32"),
        (_save("t.npy", np.array([0.0, 1, 0, 5, 4])), "goes back within a recording"),
        (_save("recording.npy", np.array([0, 1, 0, 1, 1], np.int32)), "does not order the rows"),
        (_save("segment.npy", np.array([1, 0, 0, 0, 0], np.int32)), "goes back within a recording"),
    ],
)
def test_damage_is_one_line(make_store, damage, says):
    folder = make_store(("a1", "ann", 2), ("b1", "bob", 3)).folder
    damage(folder)
    with pytest.raises(StoreError, match=says) as caught:
        open_store(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_pickled_arrays_are_refused(make_store):
    folder = make_store(("a1", "ann", 2)).folder
    np.save(folder / "t.npy", np.array([print, print], dtype=object))
    with pytest.raises(StoreError, match=r"t\.npy: "):
        open_store(folder)


def test_changed_bytes_are_found_by_their_digest(make_store):
    store = make_store(("a1", "ann", 2))
    path = store.folder / "crops.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    open_store(store.folder)
    with pytest.raises(StoreError, match=r"crops\.npy has another digest"):
        open_store(store.folder).check_digests()


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda _: None, "the folder does not exist; make one with psm-adapt crops"),
        (lambda folder: folder.mkdir(), "it has no store.json; make one"),
        (lambda folder: (folder / "parts").mkdir(parents=True), "did not finish it; give the same command again"),
        (lambda folder: folder.write_text("x"), "it has no store.json"),
    ],
)
def test_what_is_no_store_says_how_to_make_one(tmp_path, prepare, says):
    folder = tmp_path / "store"
    prepare(folder)
    with pytest.raises(StoreError, match=says):
        open_store(folder)
