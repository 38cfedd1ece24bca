"""RTSP, against a real server on this machine: time stamps, losses, returns, refusals, and no credential anywhere."""

import socket
import threading
import time
from contextlib import closing
from math import isnan
from statistics import median
from types import SimpleNamespace

import pytest

from psm_stream.capture import Capture
from psm_stream.config import SourceSettings
from psm_stream.errors import SourceError, SourceLost
from psm_stream.slot import Slot
from psm_stream.sources import Picture
from psm_stream.sources.rtsp import Arrival, RtspSource, newest_part
from psm_stream.testing import number_in
from psm_stream.testing_rtsp import RtspServer
from psm_stream.values import Frame


@pytest.fixture
def server():
    with RtspServer(fps=10) as running:
        yield running


def settings(url, **changes) -> SourceSettings:
    return SourceSettings(kind="rtsp", rtsp=url, **changes)


def source_of(url, **changes) -> RtspSource:
    return RtspSource(settings(url, **changes), time.monotonic)


def pictures(source, count):
    found = []
    while len(found) < count:
        got = source.read()
        found += [got] if isinstance(got, Picture) else []
    return found


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pictures_come_in_order_stamped_when_they_began_to_arrive(server, transport):
    with closing(source_of(server.url, transport=transport)) as source:
        source.open()
        assert source.name == server.url
        some = pictures(source, 12)
    numbers = [number_in(picture.image) for picture in some]
    assert numbers == sorted(set(numbers))
    assert some[0].image.shape == (240, 320, 3)
    # FFmpeg gives a picture out when the next one begins, 0.1 s later; the stamp is from before that.
    ages = [picture.t_capture - server.sent[number] for picture, number in zip(some, numbers, strict=True)]
    assert min(ages) >= 0
    assert median(ages) < 0.1
    pairs = zip(some, numbers, strict=True)
    offsets = [picture.t_source - number / 10 for picture, number in pairs if not isnan(picture.t_source)]
    assert len(offsets) >= 10
    assert offsets == pytest.approx([offsets[0]] * len(offsets), abs=1e-3)


def test_a_stream_that_freezes_is_lost_and_opens_again(server):
    with closing(source_of(server.url, stall_s=0.3)) as source:
        source.open()
        pictures(source, 1)
        server.is_frozen = True
        with pytest.raises(SourceLost, match=r"sent nothing for 0\.3 s"):
            pictures(source, 100)
        source.close()
        server.is_frozen = False
        source.open()
        pictures(source, 1)


def test_close_from_another_thread_wakes_a_read(server):
    with closing(source_of(server.url, stall_s=60)) as source:
        source.open()
        pictures(source, 1)
        server.is_frozen = True
        threading.Timer(0.05, source.close).start()
        with pytest.raises(SourceLost):
            pictures(source, 100)


def test_a_server_that_is_cut_off_and_restored_is_back_without_a_backlog(server):
    notices, changed = [], threading.Condition()

    def notify(notice):
        with changed:
            notices.append(notice)
            changed.notify_all()

    def wait_for(subject):
        with changed:
            assert changed.wait_for(lambda: notices and notices[-1].subject == subject, 20)

    slot = Slot.latest()
    source = source_of(server.url)
    capture = Capture(source, slot, time.monotonic, notify, settings(server.url))
    capture.start()
    try:
        assert isinstance(slot.get(20), Frame)
        server.cut()
        wait_for("source.lost")
        restored = time.monotonic()
        server.restore()
        wait_for("source.back")
        after = [slot.get(20) for _ in range(6)]
    finally:
        capture.stop()
        assert capture.join(20)
    assert [notice.subject for notice in notices] == ["source.lost", "source.back"]
    assert notices[0].fields["source"] == server.url
    fresh = [frame for frame in after if frame.stamp.t_capture > restored]
    assert len(fresh) >= 5
    for frame in fresh:
        assert server.sent[number_in(frame.image)] > restored


def failure(url, **changes) -> str:
    source = source_of(url, **changes)
    with closing(source), pytest.raises(SourceError) as error:
        source.open()
    text = str(error.value)
    assert "\n" not in text
    assert error.value.__context__ is None
    assert error.value.__cause__ is None
    for secret in ("operator", "hunter2", "t0ken"):
        assert secret not in text
        assert secret not in source.name
    return text


def test_what_cannot_be_opened_is_said_in_one_line(server):
    port = str(server.port)
    login = server.url.replace("//", "//operator:hunter2@")
    assert "has no such stream (404)" in failure(login.replace("/live", "/other?token=t0ken"))
    assert "is no RTSP address" in failure("http://operator:hunter2@127.0.0.1/live")
    assert "is no RTSP address" in failure("")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed_port = str(unused.getsockname()[1])
    assert "refuses the connection" in failure(login.replace(port, closed_port))


def test_a_server_that_says_nothing(monkeypatch):
    monkeypatch.setattr("psm_stream.sources.rtsp._OPEN_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        text = failure(f"rtsp://operator:hunter2@127.0.0.1:{mute.getsockname()[1]}/live", stall_s=0.2)
    assert "sends no video within 0.2 s" in text


def test_a_server_that_speaks_another_language():
    def answer(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        failure(f"rtsp://operator:hunter2@127.0.0.1:{listener.getsockname()[1]}/live?token=t0ken")
        thread.join()


def test_login():
    with RtspServer(fps=10, login="operator:hunter2") as server:
        assert "wants another user name or password" in failure(server.url.replace("//", "//operator:hunter3@"))
        assert "wants another user name or password" in failure(server.url)
        with closing(source_of(server.url.replace("//", "//operator:hunter2@"))) as source:
            source.open()
            assert source.name == server.url.replace("//", "//***@")
            pictures(source, 1)
            server.cut()
            with pytest.raises(SourceLost) as lost:
                pictures(source, 100)
        assert "hunter2" not in str(lost.value)


def test_a_backlog_is_cut_to_its_newest_key_frame():
    def arrivals(span_s, keys):
        return [Arrival(span_s * n / 9, SimpleNamespace(is_keyframe=n in keys, number=n)) for n in range(10)]

    def kept(span_s, keys):
        return [arrival.packet.number for arrival in newest_part(arrivals(span_s, keys), 1.0)]

    assert kept(0.9, {0, 5}) == list(range(10))
    assert kept(2.0, {0, 5, 7}) == [7, 8, 9]
    assert kept(2.0, set()) == list(range(10))
    assert list(newest_part([], 1.0)) == []


def test_reading_before_opening():
    with pytest.raises(SourceLost, match="not open"):
        source_of("rtsp://127.0.0.1/live").read()
