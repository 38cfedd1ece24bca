"""`kill -9` while recording: a real process, killed at random moments; what is older than half a second is there."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest

from psm_stream.record.reader import Session
from psm_stream.record.testing import same_face, some_faces

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")

LOSS_LIMIT_S = 0.5

RECORDS_FOR_EVER = """
import sys, time
from pathlib import Path
import numpy as np
from psm_stream.config import RecordSettings
from psm_stream.record.testing import a_stamp, fake_encoder, some_faces
from psm_stream.record.writer import Opening, Recorder
from psm_stream.values import Frame
from psm_stream.wire.messages import MessageBuilder

root, video = Path(sys.argv[1]), sys.argv[2]
encoder = fake_encoder(root / "bundles", "0123456789ab")
builder = MessageBuilder("ab" * 16, "msgpack", time.monotonic)
faces = [some_faces(index, size_px=128) for index in range(400)]
picture = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
settings = RecordSettings(root=root, video=video, min_free_gb=0)
recorder = Recorder.start(settings, Opening("ab" * 16, {}, "fake", encoder), lambda notice: None)
print(recorder.folder, flush=True)
for index, item in enumerate(faces):
    recorder.frame(Frame(a_stamp(index), np.roll(picture, index, 1)))
    recorder.input(item)
    recorder.message(builder.heartbeat())
    print(index, time.monotonic(), flush=True)
    time.sleep(0.01)
"""


def record_and_kill(root: Path, video: str, after: int) -> tuple[Session, list[float]]:
    """Let a process record until it has handed over `after` frames, kill it, and return when it handed over each."""
    command = [sys.executable, "-c", RECORDS_FOR_EVER, str(root), video]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        handed_over = [float(child.stdout.readline().split()[1]) for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        handed_over += [float(line.split()[1]) for line in child.stdout if line.endswith("\n")]
    return Session(folder), handed_over


@pytest.mark.parametrize(("seed", "video"), [(0, "off"), (1, "off"), (2, "off"), (3, "h264"), (4, "lossless")])
def test_a_killed_recording_opens_and_has_lost_no_more_than_half_a_second(tmp_path, seed, video):
    session, handed_over = record_and_kill(tmp_path, video, after=random.Random(seed).randrange(1, 250))
    assert not session.is_finished
    inputs = list(session.inputs())
    for index, item in enumerate(inputs):
        assert same_face(item.faces[0], some_faces(index, size_px=128).faces[0])
    must_be_there = sum(t < handed_over[-1] - LOSS_LIMIT_S for t in handed_over)
    assert len(inputs) >= must_be_there
    assert len(list(session.messages())) >= must_be_there
    if video != "off":
        place = {frame.index: frame.pts_ms for frame in session.video_frames()}
        assert len(place) >= must_be_there
        with av.open(str(session.folder / "video.mkv")) as container:
            shown = [int(frame.pts * frame.time_base * 1000 + 0.5) for frame in container.decode(video=0)]
        assert len(shown) >= must_be_there
        assert shown[: len(place)] == [place[index] for index in range(len(place))][: len(shown)]


def test_killed_before_the_first_chunk_it_still_opens(tmp_path):
    session, _ = record_and_kill(tmp_path, "off", after=1)
    assert session.start().model_id == "0123456789ab"
    assert len(list(session.inputs())) <= 60
