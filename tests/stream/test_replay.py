"""A replay gives what the live run gave: same steps, same encoders, also through swaps and from mid-run."""

import json

import pytest

from psm_stream.bundle import general_bundle, open_bundle
from psm_stream.devices import CPU, CUDA
from psm_stream.encoder import open_encoder
from psm_stream.errors import BundleError, DeviceError, SessionError
from psm_stream.pipeline import Pipeline
from psm_stream.record.reader import Session
from psm_stream.record.testing import fake_encoder, open_fake, record_run, rewrite, some_faces
from psm_stream.replay import Replay, model_opener
from psm_stream.values import Embedding, Marker, NoFace, Notice, SwapEncoder
from psm_stream.wire.messages import Message

ONE, TWO = "111111111111", "222222222222"


@pytest.fixture
def one(tmp_path):
    return fake_encoder(tmp_path / "bundles", ONE)


@pytest.fixture
def two(tmp_path):
    return fake_encoder(tmp_path / "bundles", TWO)


def embeddings(results):
    return [
        (result.face.frame.index, result.face.face_id, result.vector.tobytes(), result.model_id, result.model_epoch)
        for result in results
        if isinstance(result, Embedding)
    ]


def replayed(folder):
    return [result for _, results in Replay(Session(folder), open_fake).steps() for result in results]


def live(items, encoder, model_epoch=0):
    pipeline = Pipeline(encoder, model_epoch=model_epoch)
    return [result for item in items for result in pipeline.step(item)]


def test_a_replay_gives_the_results_of_the_live_run(tmp_path, one):
    items = [some_faces(0), Marker("m", 100.0, "control"), NoFace(some_faces(1).frame, "none"), some_faces(2, (0, 3))]
    again, before = replayed(record_run(tmp_path, one, items)), live(items, one)
    assert embeddings(again) == embeddings(before)
    assert [type(result) for result in again] == [type(result) for result in before]
    assert [result for result in again if isinstance(result, Marker | Notice)] == [
        result for result in before if isinstance(result, Marker | Notice)
    ]


def test_an_encoder_that_wants_another_template_is_never_given_the_session_s_crops(tmp_path, one):
    folder = record_run(tmp_path, one, [some_faces(0)])
    told = json.loads((folder / "info.json").read_text())
    told["config"]["aligner"] = {"template": {"name": "wide", "eye_distance": 0.25, "eye_line_y": 0.34}}
    (folder / "info.json").write_text(json.dumps(told))
    with pytest.raises(SessionError, match=rf"has crops by wide .* its model {ONE} wants any") as caught:
        replayed(folder)
    assert "\n" not in str(caught.value)


def test_it_goes_through_swaps_with_the_session_s_own_copies(tmp_path, one, two):
    items = [some_faces(0), SwapEncoder(two, "adapt"), some_faces(1), SwapEncoder(one, "revert"), some_faces(2)]
    folder = record_run(tmp_path, one, items)
    before = embeddings(live(items, one))
    for encoder in (one, two):
        (encoder.bundle.folder / "manifest.json").unlink()  # the originals are gone tomorrow
    assert embeddings(replayed(folder)) == before
    assert [(model_id, epoch) for _, _, _, model_id, epoch in before] == [(ONE, 0), (TWO, 1), (ONE, 2)]


def test_a_recording_begun_in_the_middle_of_a_run_begins_with_its_state(tmp_path, one, two):
    waiting = SwapEncoder(two, "adapt")
    items = [some_faces(7), some_faces(8)]
    folder = record_run(tmp_path, one, items, model_epoch=3, waiting=waiting)
    assert embeddings(replayed(folder)) == embeddings(live([waiting, *items], one, model_epoch=3))


def test_each_encoder_is_opened_once(tmp_path, one, two):
    swaps = [SwapEncoder(encoder, "again") for encoder in (two, one, two, one)]
    opened = []

    def opening(folder):
        opened.append(folder.name)
        return open_fake(folder)

    replay = Replay(Session(record_run(tmp_path, one, swaps)), opening)
    assert [type(logged.value) for logged, _ in replay.steps() if not isinstance(logged.value, Message)]
    assert opened == [ONE, TWO]


def test_a_copy_that_is_another_model_is_refused(tmp_path, one, two):
    folder = record_run(tmp_path, one, [SwapEncoder(two, "adapt")])
    (folder / "models" / ONE).rename(folder / "models" / "gone")
    (folder / "models" / TWO).rename(folder / "models" / ONE)
    with pytest.raises(SessionError, match=f"holds model {TWO}"):
        Replay(Session(folder), open_fake)


def test_a_model_that_is_missing_or_changed_is_refused(tmp_path, one):
    folder = record_run(tmp_path, one, [some_faces(0)])
    (folder / "models" / ONE / "encoder.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError):
        Replay(Session(folder), open_fake)
    (folder / "models" / ONE).rename(folder / "models" / "gone")
    with pytest.raises(SessionError, match=f"no copy of model {ONE}"):
        Replay(Session(folder), open_fake)


def test_a_log_that_begins_otherwise_is_refused(tmp_path, one):
    folder = record_run(tmp_path, one, [some_faces(0)])
    rewrite(folder, lambda entries: entries[1:])
    with pytest.raises(SessionError, match=r"does not begin with an input\.start"):
        Replay(Session(folder), open_fake)


def with_provider(folder, provider):
    return Session(folder).info.model_copy(update={"provider": provider})


def test_encoders_are_opened_as_they_ran(tmp_path):
    general = open_encoder(open_bundle(general_bundle()), "cpu")
    folder = record_run(tmp_path, general, [])
    copy = Session(folder).model_folder(general.model_id)
    assert model_opener(with_provider(folder, CPU))(copy).provider == CPU
    # one that is not on this machine gives way to what there is; one that was asked for does not
    elsewhere = with_provider(folder, CUDA)
    assert model_opener(elsewhere)(copy).provider in (CPU, CUDA)
    if model_opener(elsewhere)(copy).provider == CPU:
        with pytest.raises(DeviceError):
            model_opener(elsewhere, "cuda")(copy)
