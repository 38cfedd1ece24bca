"""How old is what a slow reader gets: 10 reads a second while the stream runs at 30 frames a second.

    python benchmarks/latest.py [--seconds 30] [--source demo]

Two readers read at 10 Hz in this process: one the `latest` port (`LatestReader`), one the ordinary port, message by
message. A third process takes every embedding at once and notes when it had it. `frames_behind` is how many frames
that process had beyond the reader's at the moment of the read; `age_ms` is the moment of the read minus `t_capture`.
The ordinary reader shows what `latest` is for: it falls behind by 20 frames a second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from common import PATIENCE_S, Stream, at_most, percentiles, report, say

from psm_stream.client import ClientMessage, LatestReader, Subscriber

GOAL_FRAMES = 1
READ_EVERY_S = 0.1


@dataclass
class Reads:
    """When a reader had a message, and what it said."""

    t: list[float] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)

    def add(self, message: ClientMessage | None) -> None:
        if message is not None:
            self.t.append(message.t_receive)
            self.index.append(message.header["frame_index"])
            self.age_ms.append(1e3 * (message.t_receive - message.header["t_capture"]))


def main() -> None:
    parser = argparse.ArgumentParser(description="staleness of a 10 Hz reader; prints JSON")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--source", default="demo")
    options = parser.parse_args()
    newest, latest, ordinary = read_all(options.source, options.seconds)
    behind = frames_behind(latest, newest)
    figures = {
        "latest": {
            "reads": len(latest.t),
            "frames_behind": {**percentiles(behind), "max": at_most(GOAL_FRAMES, max(behind))},
            "age_ms": percentiles(latest.age_ms),
        },
        "ordinary_subscriber": {
            "reads": len(ordinary.t),
            "frames_behind": percentiles(frames_behind(ordinary, newest)),
            "age_ms": percentiles(ordinary.age_ms),
        },
        "fast_reader": {"embeddings": len(newest.t), "age_ms": percentiles(newest.age_ms)},
    }
    report("latest", vars(options), figures)


def read_all(source: str, seconds: float) -> tuple[Reads, Reads, Reads]:
    """Return what the fast reader, the reader of `latest` and the ordinary reader had."""
    latest, ordinary = Reads(), Reads()
    moment = random.Random(0)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with Stream("--source", source, "--pace", "live") as stream:
        address = stream.address()
        fast = multiprocessing.get_context("spawn").Process(target=read_fast, args=(address, theirs), daemon=True)
        fast.start()
        if not ours.poll(PATIENCE_S):
            raise SystemExit(f"the fast reader got nothing: {stream.said()}")
        ours.recv()
        with LatestReader(address) as newest_only, Subscriber(address, ["embedding."]) as each:
            began = time.monotonic()
            for turn in range(int(seconds / READ_EVERY_S)):
                due = began + (turn + moment.random()) * READ_EVERY_S  # never in step with the frames
                time.sleep(max(0.0, due - time.monotonic()))
                latest.add(newest_only.read())
                ordinary.add(each.receive(1.0))
        ours.send("enough")
        newest: Reads = ours.recv()
        fast.join()
        say(f"dropped: {stream.interrupt()['frames']['dropped']}")
    return newest, latest, ordinary


def read_fast(address: str, parent: Connection) -> None:
    """Take every embedding until the parent has enough; the body of the fast reader's process."""
    reads = Reads()
    with Subscriber(address, ["embedding."]) as subscriber:
        reads.add(subscriber.receive(PATIENCE_S))
        parent.send("running")
        while not parent.poll():
            reads.add(subscriber.receive(1.0))
    parent.recv()
    parent.send(reads)


def frames_behind(reads: Reads, newest: Reads) -> list[int]:
    """For each read: how many frames the fast reader had beyond it, at that moment; -1 if it had it a moment later."""
    known = [newest.index[max(0, bisect_right(newest.t, t) - 1)] for t in reads.t]
    return [index - read for index, read in zip(known, reads.index, strict=True)]


if __name__ == "__main__":
    main()
