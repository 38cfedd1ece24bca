"""A session is published again: same content, at its own pace, on its own clock, with control and markers."""

import json
import threading

import numpy as np
import pytest

from psm_stream.client import Control, Subscriber
from psm_stream.config import WireSettings
from psm_stream.player import Player
from psm_stream.record.reader import Session
from psm_stream.record.testing import BEGAN, fake_encoder, open_fake, record_run, some_faces
from psm_stream.replay import Replay
from psm_stream.values import Embedding, Marker, NoFace, SwapEncoder
from psm_stream.wire.ports import open_sockets

FRAMES = 6


class HandClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


class Playing:
    """A player in a thread, a subscriber that hears it for certain, and a control connection."""

    def __init__(self, folder, pace="live") -> None:
        self.clock = HandClock()
        self.sockets = open_sockets(WireSettings(control_port="auto"))
        replay = Replay(Session(folder), open_fake)
        self.player = Player(replay, self.sockets, "msgpack", pace, clock=self.clock)
        self.played = []
        self.thread = threading.Thread(target=lambda: self.played.append(self.player.run()))
        address = f"tcp://127.0.0.1:{self.sockets.ports.control}"
        self.control = Control(address, timeout_s=20)
        self.subscriber = Subscriber(publish_address=f"tcp://127.0.0.1:{self.sockets.ports.publish}")

    def __enter__(self):
        self.thread.start()
        while True:  # until a message has come, nobody knows that the subscription has arrived
            self.control.marker("hello")
            if self.subscriber.receive(0.1) is not None:
                break
        self.heard_until("ready")
        return self

    def __exit__(self, *_):
        self.clock.now += 1e6  # let it come to its end
        self.thread.join(30)
        self.control.close()
        self.subscriber.close()
        self.sockets.close()

    def heard_until(self, label):
        """Send a marker; return the messages that were heard before it."""
        self.control.marker(label)
        heard = []
        while True:
            message = self.subscriber.receive(20)
            assert message is not None
            if message.topic == "marker.control" and message.header["label"] == label:
                return heard
            heard.append(message)

    def heard_through(self, topic):
        """Return the messages up to the next of a topic."""
        heard = []
        while not heard or heard[-1].topic != topic:
            heard.append(self.subscriber.receive(20))
            assert heard[-1] is not None
        return heard

    def frames(self, count):
        """Wait for so many frames; return their indexes."""
        return [self.heard_through("embedding.00")[-1].header["frame_index"] for _ in range(count)]

    def frames_until(self, label):
        return [m.header["frame_index"] for m in self.heard_until(label) if m.topic == "embedding.00"]


@pytest.fixture
def encoder(tmp_path):
    return fake_encoder(tmp_path / "bundles", "111111111111")


@pytest.fixture
def folder(tmp_path, encoder):
    other = fake_encoder(tmp_path / "bundles", "222222222222")
    faces = [some_faces(index, rich=True) for index in range(FRAMES)]
    items = [*faces[:2], Marker("trial", 100.05, "remote"), SwapEncoder(other, "adapt"), *faces[2:]]
    return record_run(tmp_path, encoder, [*items, NoFace(some_faces(FRAMES).frame, "none")])


def test_it_publishes_what_was_recorded(folder):
    recorded = {}
    for _, results in Replay(Session(folder), open_fake).steps():
        recorded |= {result.face.frame.index: result for result in results if isinstance(result, Embedding)}
    with Playing(folder) as playing:
        playing.clock.now += 60
        heard = playing.heard_through("notify.face.lost")
        embeddings = [message for message in heard if message.topic == "embedding.00"]
        assert [message.header["frame_index"] for message in embeddings] == list(range(FRAMES))
        for message in embeddings:
            result = recorded[message.header["frame_index"]]
            assert np.array_equal(message.array, result.vector)
            assert message.header["model_id"] == result.model_id
            assert message.header["model_epoch"] == result.model_epoch
            assert message.header["t_capture"] == result.face.frame.t_capture
        topics = [message.topic for message in heard]
        for topic in ("face.00", "blendshapes.00", "marker.remote", "notify.model.swapped", "notify.face.lost"):
            assert topic in topics
        assert playing.subscriber.lost == 0


def test_frames_come_when_they_came(folder):
    with Playing(folder) as playing:
        assert playing.frames_until("before") == []
        playing.clock.now += 0.5 + 2.5 / 30  # frame 0 is half a second after the start
        assert playing.frames(3) == [0, 1, 2]
        assert playing.frames_until("one") + playing.frames_until("two") == []
        playing.clock.now += 60
        assert playing.frames(3) == [3, 4, 5]


def test_its_clock_is_the_recording_s(folder):
    with Playing(folder) as playing:
        assert playing.control.time() == pytest.approx(BEGAN)
        playing.clock.now += 0.5
        assert playing.control.time() == pytest.approx(BEGAN + 0.5)
        frame = playing.heard_through("embedding.00")[-1]
        assert frame.header["t_publish"] - frame.header["t_capture"] == pytest.approx(0, abs=1e-6)


def test_it_answers_questions_and_refuses_orders_that_make_no_sense(folder):
    with Playing(folder) as playing:
        info = json.loads(playing.control.send("INFO"))
        assert info["replay_of"] == Session(folder).info.uuid
        assert info["source"] == "replay of fake"
        for order in ("R", "r", "REVERT", "FREEZE"):
            assert playing.control.send(order).startswith("ERROR this is a replay")
        assert playing.control.send("NONSENSE").startswith("ERROR unknown command")


def test_quit_ends_it(folder):
    with Playing(folder) as playing:
        assert playing.control.send("QUIT") == "OK"
        playing.thread.join(30)
        (played,) = playing.played
        assert (played.is_complete, played.frames) == (False, 0)


def test_the_end_of_the_session_ends_it(folder):
    with Playing(folder) as playing:
        playing.clock.now += 60
        playing.thread.join(30)
        (played,) = playing.played
        assert (played.is_complete, played.frames, played.embeddings) == (True, FRAMES + 1, FRAMES)


def test_at_the_fast_pace_it_waits_for_nothing(folder):
    sockets = open_sockets(WireSettings(control_port="auto"))
    try:
        played = Player(Replay(Session(folder), open_fake), sockets, "json", "fast", clock=HandClock()).run()
    finally:
        sockets.close()
    assert (played.is_complete, played.frames) == (True, FRAMES + 1)
