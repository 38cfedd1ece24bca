"""What `kill -9` costs a recording: seconds of data lost, and whether the session opens and replays to the same bytes.

    python benchmarks/crash.py [--rounds 5] [--video off|h264|lossless] [--longest 6]

psm-stream records the demo and is killed at a random moment after its first embedding. `lost_s` is from the last
embedding in the log to the last one that a subscriber received (`t_publish` of both), `verify` the exit code and answer
of `psm-replay --verify`.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from common import PATIENCE_S, Stream, at_most, installed, report, say

from psm_stream.client import ClientMessage, Subscriber, decode_header
from psm_stream.record.reader import Session

GOAL_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description="kill -9 while recording; prints JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--video", choices=["off", "h264", "lossless"], default="off")
    parser.add_argument("--longest", type=float, default=6.0, help="seconds of recording at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    rounds = []
    for turn in range(options.rounds):
        rounds.append(one_crash(options.video, dice.uniform(0.0, options.longest)))
        say(f"round {turn + 1}: {rounds[-1]}")
    figures = {
        "lost_s_worst": at_most(GOAL_S, max(each["lost_s"] for each in rounds)),
        "verify_failures": at_most(0, sum(each["verify"]["exit"] != 0 for each in rounds)),
        "rounds": rounds,
    }
    report("crash", vars(options), figures)


def one_crash(video: str, after_s: float) -> dict[str, Any]:
    """Record, kill after so many seconds, and look at what is there."""
    with tempfile.TemporaryDirectory(prefix="psm-benchmark-") as root:
        received = record_and_kill(Path(root), video, after_s)
        (info,) = Path(root).glob("*/*/info.json")
        session = Session(info.parent)
        headers = [decode_header(message.header) for message in session.messages() if is_embedding(message.topic)]
        t_logged = headers[-1]["t_publish"] if headers else received[0].header["t_publish"]
        verify = subprocess.run(
            [installed("psm-replay"), str(info.parent), "--verify"],
            capture_output=True,
            text=True,
            timeout=10 * PATIENCE_S,
            check=False,
        )
    return {
        "killed_after_s": round(after_s, 3),
        "embeddings": {"received": len(received), "logged": len(headers)},
        "lost_s": round(max(0.0, received[-1].header["t_publish"] - t_logged), 3),
        "lost_bytes": session.lost_bytes,
        "verify": {"exit": verify.returncode, "said": (verify.stdout or verify.stderr).strip()},
    }


def record_and_kill(root: Path, video: str, after_s: float) -> list[ClientMessage]:
    """Return the embeddings received up to the death of the process."""
    arguments = ("--source", "demo", "--record", str(root), "--record.video", video)
    with Stream(*arguments) as stream, Subscriber(stream.address(), ["embedding."]) as subscriber:
        first = subscriber.receive(PATIENCE_S)
        if first is None:
            raise SystemExit(f"no embedding came: {stream.said()}")
        received, end = [first], time.monotonic() + after_s
        while (left_s := end - time.monotonic()) > 0:
            received += [message for message in [subscriber.receive(left_s)] if message is not None]
        stream.process.kill()
        stream.process.wait()
        while (message := subscriber.receive(0.2)) is not None:
            received.append(message)
    return received


def is_embedding(topic: str) -> bool:
    return topic.startswith("embedding.")


if __name__ == "__main__":
    main()
