"""What the tests of recording share: a recorder over a temporary root, and messages as the publisher sends them."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from psm_stream.config import RecordSettings
from psm_stream.record.outside import Outside
from psm_stream.record.testing import fake_encoder
from psm_stream.record.writer import Opening, Recorder
from psm_stream.values import Notice
from psm_stream.wire.messages import Message, MessageBuilder

RUN = "ab" * 16
MODEL = "0123456789ab"


class Desk:
    """Makes recorders and keeps what they announce."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.encoder = fake_encoder(root / "bundles", MODEL)
        self.notices: list[Notice] = []
        self.recorders: list[Recorder] = []
        self._told = threading.Condition()

    def start(self, outside: Outside | None = None, wait_when_full=False, bound=None, min_free_gb=0.0, **changes):
        video = changes.pop("video", "off")
        opening = Opening(**{"run": RUN, "config": {"a": 1}, "source": "fake", "encoder": self.encoder, **changes})
        settings = RecordSettings(root=self.root / "sessions", video=video, min_free_gb=min_free_gb)
        recorder = Recorder.start(
            settings, opening, self.notify, outside=outside, wait_when_full=wait_when_full, bound=bound
        )
        self.recorders.append(recorder)
        return recorder

    def notify(self, notice: Notice) -> None:
        with self._told:
            self.notices.append(notice)
            self._told.notify_all()

    def wait_for(self, subject: str) -> None:
        with self._told:
            assert self._told.wait_for(lambda: subject in self.subjects(), 60)

    def subjects(self) -> list[str]:
        return [notice.subject for notice in self.notices]

    def stopped(self) -> Notice:
        (notice,) = [notice for notice in self.notices if notice.subject == "recording.stopped"]
        return notice


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    for recorder in desk.recorders:
        recorder.stop()
        recorder.join(10)


@pytest.fixture
def builder() -> MessageBuilder:
    return MessageBuilder(RUN, "msgpack", lambda: 5.0)


@pytest.fixture
def heartbeats(builder) -> Callable[[int], list[Message]]:
    return lambda count: [builder.heartbeat() for _ in range(count)]
