"""Verification passes what is equal, and names the first difference of whatever is not."""

import random
from dataclasses import replace

import msgpack
import numpy as np
import pytest

from psm_stream.record.codec import decode, encode
from psm_stream.record.reader import Session
from psm_stream.record.testing import fake_encoder, open_fake, record_run, rewrite, some_faces
from psm_stream.replay import Replay
from psm_stream.values import NAN, Faces, Marker, NoFace, SwapEncoder
from psm_stream.verify import verify

ONE, TWO, THREE = "111111111111", "222222222222", "333333333333"
FRAMES = 6


@pytest.fixture
def one(tmp_path):
    return fake_encoder(tmp_path / "bundles", ONE)


def inputs(two=None):
    swap = [] if two is None else [SwapEncoder(two, "adapt")]
    faces = [some_faces(index, (0, 1), rich=index % 2 == 0) for index in range(FRAMES)]
    return [*faces[:2], NoFace(some_faces(90).frame, "none"), *swap, Marker("m", 100.0, "control"), *faces[2:]]


def verdict_of(folder, open_model=open_fake, progress=lambda _: None):
    return verify(Replay(Session(folder), open_model), progress)


@pytest.fixture
def folder(tmp_path, one):
    return record_run(tmp_path, one, inputs())


@pytest.mark.parametrize("header", ["msgpack", "json"])
def test_what_is_equal_passes_and_is_counted(tmp_path, one, header):
    verdict = verdict_of(record_run(tmp_path, one, inputs(), header=header))
    assert verdict.difference == ""
    assert verdict.embeddings == 2 * FRAMES
    assert verdict.messages == 2 * 2 * FRAMES + FRAMES  # embedding and face for each face, blendshapes for half of them
    assert (verdict.tolerance, verdict.unfinished, verdict.notes) == (0.0, 0, ())


def test_it_passes_through_a_swap(tmp_path, one):
    two = fake_encoder(tmp_path / "bundles", TWO)
    verdict = verdict_of(record_run(tmp_path, one, inputs(two)))
    assert (verdict.difference, verdict.embeddings) == ("", 2 * FRAMES)


@pytest.mark.parametrize("seed", range(6))
def test_it_passes_through_many_swaps_in_a_recording_that_begins_after_some(tmp_path, seed):
    """Adaptations, reverts to the general encoder, several orders between two frames, frames without a face."""
    draw = random.Random(seed)
    names = {ONE: "revert", TWO: "adapt", THREE: "adapt"}
    encoders = {model_id: fake_encoder(tmp_path / "bundles", model_id) for model_id in names}

    def some_swap():
        model_id = draw.choice(list(names))
        return SwapEncoder(encoders[model_id], names[model_id])

    items: list = []
    for index in range(20):
        items += [some_swap() for _ in range(draw.choice([0, 0, 1, 2, 3]))]
        items += [Marker("m", 100.0, "control")] * draw.choice([0, 1])
        items.append(NoFace(some_faces(index).frame, "none") if draw.random() < 0.2 else some_faces(index, (0, 1)))
    opening = {"model_epoch": draw.randrange(1, 9), "waiting": draw.choice([None, some_swap()])}
    folder = record_run(tmp_path, encoders[TWO], items, **opening)

    opened = []

    def open_model(path):
        opened.append(path.name)
        return open_fake(path)

    verdict = verdict_of(folder, open_model)
    assert (verdict.difference, verdict.tolerance, verdict.unfinished) == ("", 0.0, 0)
    assert verdict.embeddings == 2 * sum(isinstance(item, Faces) for item in items)
    headers = [msgpack.unpackb(message.header) for message in Session(folder).messages() if message.kind == "embedding"]
    epochs = [header["model_epoch"] for header in headers]
    assert epochs == sorted(epochs)
    assert epochs[0] >= opening["model_epoch"]
    assert len({header["model_id"] for header in headers}) > 1
    assert sorted(opened) == sorted(Session(folder).info.models)  # each model once, its own copy


@pytest.mark.parametrize("later", [True, False])
def test_a_swap_one_frame_off_is_named(tmp_path, one, later):
    folder = record_run(tmp_path, one, inputs(fake_encoder(tmp_path / "bundles", TWO)))

    def moved(entries):
        swap = entries.pop(places(entries, "input.swap")[0])
        frames = [place for place, entry in enumerate(entries) if entry.channel == "input.faces"]
        entries.insert(frames[2] + 1 if later else frames[1], swap)
        return entries

    rewrite(folder, moved)
    frame, was, now = (2, TWO, ONE) if later else (1, ONE, TWO)
    assert verdict_of(folder).difference == (
        f"frame {frame}, embedding.00: header key model_id is {now!r}, {was!r} was recorded"
    )


def test_a_face_without_confidence_is_equal_to_itself(tmp_path, one):
    faces = some_faces(0)
    unsure = Faces(faces.frame, (replace(faces.faces[0], confidence=NAN),))
    assert verdict_of(record_run(tmp_path, one, [unsure])).difference == ""


def test_nothing_recorded_is_nothing_compared(tmp_path, one):
    verdict = verdict_of(record_run(tmp_path, one, [NoFace(some_faces(0).frame, "none")]))
    assert (verdict.difference, verdict.embeddings, verdict.messages) == ("", 0, 0)


def test_progress_rises(folder):
    told = []
    verdict_of(folder, progress=told.append)
    assert told == sorted(told)
    assert told[0] >= 0
    assert told[-1] <= 1


def change(topic, number, body):
    """Return a change of the n-th entry of a channel."""

    def changing(entries):
        place = [place for place, entry in enumerate(entries) if entry.channel == topic][number]
        entries[place] = replace(entries[place], body=body(entries[place].body))
        return entries

    return changing


def flip_last_byte(body):
    return body[:-1] + bytes([body[-1] ^ 1])


def test_one_changed_byte_of_a_vector_is_named(folder):
    rewrite(folder, change("embedding.01", 3, flip_last_byte))
    verdict = verdict_of(folder)
    assert verdict.difference.startswith("frame 3, embedding.01: value 7 is ")
    assert "(1 of 8 differ" in verdict.difference
    assert verdict.embeddings == 7


def test_one_changed_pixel_of_a_crop_is_named(folder):
    def brighter(body):
        faces = decode("input.faces", body)
        crop = faces.faces[1].crop.copy()
        crop[3, 4, 1] ^= 128
        return encode(Faces(faces.frame, (faces.faces[0], replace(faces.faces[1], crop=crop))))[1]

    rewrite(folder, change("input.faces", 4, brighter))
    assert verdict_of(folder).difference.startswith("frame 4, embedding.01: value 0 is ")


def test_a_changed_landmark_is_named(folder):
    rewrite(folder, change("face.00", 2, flip_last_byte))
    assert verdict_of(folder).difference.startswith("frame 2, face.00: value 955 is ")


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_id", "333333333333"), ("model_epoch", 9), ("t_capture", 1.5), ("cluster", 4), ("confidence", 0.0)],
)
def test_a_changed_header_key_is_named(folder, key, value):
    def changed(body):
        length = int.from_bytes(body[:4], "little")
        header = msgpack.packb(msgpack.unpackb(body[4 : 4 + length]) | {key: value})
        return len(header).to_bytes(4, "little") + header + body[4 + length :]

    rewrite(folder, change("embedding.00", 5, changed))
    assert f"frame 5, embedding.00: header key {key} is" in verdict_of(folder).difference
    assert f"{value!r} was recorded" in verdict_of(folder).difference


def test_a_header_that_is_none_is_named(folder):
    rewrite(folder, change("embedding.00", 1, lambda body: body[:4] + b"\xc1" * (len(body) - 4)))
    assert "embedding.00 message cannot be read" in verdict_of(folder).difference


def places(entries, topic):
    return [place for place, entry in enumerate(entries) if entry.channel == topic]


def without(topic, number):
    def changing(entries):
        del entries[places(entries, topic)[number]]
        return entries

    return changing


def test_a_missing_embedding_is_named(folder):
    rewrite(folder, without("embedding.00", 3))
    assert verdict_of(folder).difference == (
        "frame 3, embedding.00: it is missing from the recording, which goes on with frame 3, face.00"
    )


def test_a_missing_last_embedding_is_named(folder):
    def changing(entries):
        return entries[: places(entries, "embedding.01")[-1]]

    rewrite(folder, changing)
    assert verdict_of(folder).difference == (
        f"frame {FRAMES - 1}, embedding.01: it is missing from the recording, which ends before it"
    )


def test_an_embedding_too_many_is_named(folder):
    def changing(entries):
        return [*entries, entries[places(entries, "embedding.01")[-1]]]

    rewrite(folder, changing)
    assert verdict_of(folder).difference == (
        f"frame {FRAMES - 1}, embedding.01: it is in the recording, and the replay does not make it"
    )


def test_embeddings_in_another_order_are_named(folder):
    def changing(entries):
        one, other = places(entries, "embedding.00")[2], places(entries, "embedding.01")[2]
        entries[one], entries[other] = entries[other], entries[one]
        return entries

    rewrite(folder, changing)
    assert "frame 2, embedding.00: it is missing" in verdict_of(folder).difference


def test_a_missing_input_is_named(folder):
    rewrite(folder, without("input.faces", 3))
    assert verdict_of(folder).difference == (
        "frame 3, embedding.00: it is in the recording, and the replay does not make it"
    )


def test_seq_must_go_on(folder):
    def later(body):
        length = int.from_bytes(body[:4], "little")
        tree = msgpack.unpackb(body[4 : 4 + length])
        header = msgpack.packb(tree | {"seq": tree["seq"] + 1})
        return len(header).to_bytes(4, "little") + header + body[4 + length :]

    rewrite(folder, change("embedding.00", 3, later))
    assert verdict_of(folder).difference == "frame 3, embedding.00: seq is 3, 4 was recorded"


def test_seq_may_begin_anywhere(tmp_path, one):
    """As in a recording that began in the middle of a run."""
    folder = record_run(tmp_path, one, inputs())

    def later(entries):
        first = places(entries, "input.faces")[2]
        return [entries[0], *entries[first:]]

    rewrite(folder, later)
    verdict = verdict_of(folder)
    assert (verdict.difference, verdict.embeddings) == ("", 2 * (FRAMES - 2))


def test_a_session_cut_anywhere_verifies_up_to_the_cut(tmp_path, one):
    whole = record_run(tmp_path, one, inputs())
    length = len(list(Session(whole).entries()))
    text = (whole / "info.json").read_text()
    log = (whole / "session.mcap").read_bytes()
    before, _, _ = text.partition('  "finished"')
    found = []
    for count in range(1, length + 1):
        (whole / "session.mcap").write_bytes(log)
        rewrite(whole, lambda entries, count=count: entries[:count])
        finished_log = (whole / "session.mcap").read_bytes()
        (whole / "info.json").write_text(before + '  "finished": null\n}\n')
        (whole / "session.mcap").write_bytes(finished_log[:-40])  # the summary's end is cut off
        verdict = verdict_of(whole)
        assert verdict.difference == ""
        assert verdict.unfinished <= 6
        found.append(verdict.embeddings)
    assert found == sorted(found)
    assert found[-1] == 2 * FRAMES


def test_a_cut_excuses_nothing_but_the_last_frame(folder):
    text = (folder / "info.json").read_text()
    before, _, _ = text.partition('  "finished"')
    rewrite(folder, lambda entries: [entry for entry in entries if entry.channel != "embedding.01"][:-4])
    (folder / "info.json").write_text(before + '  "finished": null\n}\n')
    (folder / "session.mcap").write_bytes((folder / "session.mcap").read_bytes()[:-40])
    assert "frame 0, embedding.01: it is missing" in verdict_of(folder).difference


class Elsewhere:
    """The same encoder on another provider, off by a little."""

    def __init__(self, encoder, off):
        self._encoder, self._off = encoder, off
        self.provider = "CUDAExecutionProvider"

    def encode(self, crop):
        return self._encoder.encode(crop) + np.float32(self._off)

    def __getattr__(self, name):
        return getattr(self._encoder, name)


def test_another_provider_may_be_off_by_the_manifest_s_tolerance(folder):
    verdict = verdict_of(folder, lambda path: Elsewhere(open_fake(path), 0.25))
    assert verdict.difference == ""
    assert verdict.tolerance == 0.5
    assert verdict.max_abs == pytest.approx(0.25, rel=1e-3)
    assert "recorded on CPUExecutionProvider, replayed on CUDAExecutionProvider" in verdict.notes


@pytest.mark.parametrize("off", [0.75, float("nan"), float("inf")])
def test_another_provider_may_not_be_off_by_more(folder, off):
    verdict = verdict_of(folder, lambda path: Elsewhere(open_fake(path), off))
    assert verdict.difference.startswith("frame 0, embedding.00: value 0 is ")


def test_other_versions_are_noted_with_a_difference(folder):
    info = folder / "info.json"
    info.write_text(info.read_text().replace('"psm-stream": "', '"psm-stream": "0.0.'))
    rewrite(folder, change("embedding.01", 3, flip_last_byte))
    assert any(note.startswith("recorded with psm-stream 0.0.") for note in verdict_of(folder).notes)
