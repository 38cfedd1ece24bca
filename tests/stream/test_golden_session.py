"""A session recorded in the past is read, and replays to the same bytes, through two swaps. It must stay so.

tests/stream/record/golden/001 was written by `record_run` with schema 1. When the schema changes, it stays, and a
session of the new schema is put beside it.
"""

import hashlib
from pathlib import Path

from psm_stream.record.codec import Start, Swap
from psm_stream.record.reader import Session
from psm_stream.record.testing import open_fake
from psm_stream.replay import Replay
from psm_stream.values import Faces, Marker, NoFace
from psm_stream.verify import verify

GOLDEN = Path(__file__).parent / "record" / "golden" / "001"
ONE, TWO = "111111111111", "222222222222"


def test_it_replays_to_the_same_bytes():
    verdict = verify(Replay(Session(GOLDEN), open_fake))
    assert (verdict.difference, verdict.embeddings, verdict.messages, verdict.tolerance) == ("", 4, 9, 0.0)


def test_its_inputs_are_what_they_were():
    session = Session(GOLDEN)
    assert session.is_finished
    assert session.start() == Start(ONE, 0)
    first, marker, swap, second, nothing, back, third = session.inputs()
    assert marker == Marker("trial 1 ü", 100.02, "remote", {"n": 1})
    assert (swap, back) == (Swap(TWO, "adapt"), Swap(ONE, "revert"))
    assert isinstance(nothing, NoFace)
    assert nothing.reason == "no face found"
    faces = [face for item in (first, second, third) if isinstance(item, Faces) for face in item.faces]
    assert [(face.frame.index, face.face_id) for face in faces] == [(0, 0), (1, 0), (1, 1), (3, 0)]
    digest = hashlib.sha256()
    for face in faces:
        for array in (face.crop, face.landmarks, face.to_crop, face.blendshapes, face.pose):
            digest.update(b"" if array is None else array.tobytes())
        digest.update(repr((face.confidence, face.frame.t_capture, face.frame.t_source)).encode())
    assert digest.hexdigest() == "98130d8f8739c50f5df44fcd9e9e562fbed152ba1de0faaba1e29c51fec0853a"


def test_its_messages_are_what_they_were():
    digest = hashlib.sha256()
    for message in Session(GOLDEN).messages():
        for part in message.parts():
            digest.update(part)
    assert digest.hexdigest() == "0dc180f47553a49709720acc992e20a84903a22ba388bf9e01af3b70ae2da389"
