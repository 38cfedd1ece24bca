"""How soon psm-stream is back after an RTSP camera was cut off, and whether its latency stayed what it was.

    python benchmarks/recovery.py [--cycles 4] [--down 3] [--transport tcp|udp]

A small RTSP server in this process sends a face at 25 fps. It is alternately `cut` (connections are dropped and new
ones refused, as a camera without power) and `frozen` (connections are held, nothing comes). `back_s` is from the
source's return to the first new embedding here; `noticed_s` from its loss to `notify.source.lost`.
`latency_ms`, before and after each outage, is from the server sending a picture to its embedding here, so a backlog in
the network would show. It includes one frame interval (40 ms): H.264 over RTP is complete when the next picture begins.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median
from typing import Any

from common import PATIENCE_S, Stream, at_most, percentiles, report, say
from numpy.typing import NDArray
from videos import demo_pictures

from psm_stream.client import ClientMessage, Subscriber
from psm_stream.testing_rtsp import RtspServer

GOAL_S = 2.0
FPS = 25.0
WATCH_S = 3.0
"""Latency is watched for so long before and after an outage."""
PICTURES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description="RTSP cut and restored; prints JSON")
    parser.add_argument("--cycles", type=int, default=4, help="outages of each kind")
    parser.add_argument("--down", type=float, default=3.0, help="seconds that an outage lasts, on average")
    parser.add_argument("--transport", choices=["tcp", "udp"], default="tcp")
    options = parser.parse_args()
    with RtspServer(FPS, draw=walk(list(islice(demo_pictures(400, 300), PICTURES)))) as server:
        figures = measure(server, options)
    report("recovery", vars(options), figures)


def walk(pictures: list[NDArray[Any]]) -> Callable[[int], NDArray[Any]]:
    """Give pictures by number: forth and back through a list, without a jump."""
    turn = 2 * len(pictures) - 2
    return lambda number: pictures[min(number % turn, turn - number % turn)]


def measure(server: RtspServer, options: argparse.Namespace) -> dict[str, Any]:
    """Run psm-stream through all outages."""
    kinds: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "cut": (server.cut, server.restore),
        "frozen": (lambda: setattr(server, "is_frozen", True), lambda: setattr(server, "is_frozen", False)),
    }
    outages: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    arguments = ("--rtsp", server.url, "--source.transport", options.transport)
    dice = random.Random(0)
    with Stream(*arguments) as stream, Subscriber(stream.address(), ["embedding.", "notify.source"]) as subscriber:
        before = watch(subscriber, server)
        for _ in range(options.cycles):
            for kind, (take_away, give_back) in kinds.items():
                outage = one_outage(subscriber, take_away, give_back, options.down * dice.uniform(0.5, 1.5))
                after = watch(subscriber, server)
                outages[kind].append({**outage, "latency_ms": {"before": before, "after": after}})
                say(f"{kind}: {outages[kind][-1]}")
                before = after
        summary = stream.interrupt()
    return {
        **{
            kind: {
                "back_s": {
                    "median": at_most(GOAL_S, median(each["back_s"] for each in done)),
                    "worst": at_most(GOAL_S, max(each["back_s"] for each in done)),
                },
                "outages": done,
            }
            for kind, done in outages.items()
        },
        "frames": summary["frames"],
    }


def one_outage(
    subscriber: Subscriber, take_away: Callable[[], None], give_back: Callable[[], None], down_s: float
) -> dict[str, float | None]:
    """Take the source away, give it back, wait for the first new embedding."""
    take_away()
    t_gone, noticed_s = time.monotonic(), None
    for message in until(subscriber, t_gone + down_s):
        if message.topic == "notify.source.lost":
            noticed_s = round(message.t_receive - t_gone, 3)
    give_back()
    t_back = time.monotonic()
    for message in until(subscriber, t_back + PATIENCE_S):
        if message.topic.startswith("embedding.") and message.header["t_capture"] > t_back:
            return {"noticed_s": noticed_s, "back_s": round(message.t_receive - t_back, 3)}
    raise SystemExit("psm-stream did not come back within a minute")


def watch(subscriber: Subscriber, server: RtspServer) -> dict[str, float | None]:
    """Latency of the next embeddings. Numbers of pictures follow from stream time, which is 0 in a client's first."""
    messages = [message for message in until(subscriber, time.monotonic() + WATCH_S) if message.header["shape"]]
    first = server.begun[-1]
    sent = [server.sent.get(first + round(message.header["t_source"] * FPS)) for message in messages]
    return percentiles(
        [1e3 * (message.t_receive - t) for message, t in zip(messages, sent, strict=True) if t is not None]
    )


def until(subscriber: Subscriber, end: float) -> Iterator[ClientMessage]:
    """Messages until a moment, s monotonic."""
    while (left_s := end - time.monotonic()) > 0:
        message = subscriber.receive(left_s)
        if message is not None:
            yield message


if __name__ == "__main__":
    main()
