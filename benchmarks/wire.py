"""What the wire costs the main thread: building and sending the three messages of one frame with one face.

    python benchmarks/wire.py

One subscriber is connected to the publisher and one to the `latest` port, in this process. `paced_us` is with a pause
before each frame, as live, when caches are cold and ZeroMQ's thread sleeps; `busy_us` without one.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import zmq
from common import at_most, percentiles, report, say

from psm_stream.config import WireSettings
from psm_stream.wire.fake import fake_embedding
from psm_stream.wire.messages import MessageBuilder
from psm_stream.wire.ports import Sockets, open_sockets
from psm_stream.wire.publisher import Publisher

FRAMES = 2000
PAUSE_S = 0.002
GOAL_US = 200.0


def main() -> None:
    figures: dict[str, Any] = {}
    for header in ("msgpack", "json"):
        say(f"{header}: {FRAMES} frames, paced and not")
        settings = WireSettings(control_port="auto", header=header)
        with closing(open_sockets(settings)) as sockets, zmq.Context() as context:
            readers = [subscribe(context, sockets.ports.publish), subscribe(context, sockets.ports.latest, CONFLATE=1)]
            builder = MessageBuilder("0" * 32, header, time.monotonic)
            paced, busy = (cost_us(sockets, builder, pause_s) for pause_s in (PAUSE_S, 0.0))
            figures[header] = {"paced_us": percentiles(paced), "busy_us": percentiles(busy)}
            for reader in readers:
                reader.close()
    goal = at_most(GOAL_US, figures["msgpack"]["paced_us"]["p50"])
    report("wire", {"frames": FRAMES, "pause_s": PAUSE_S, "messages": 3}, {"frame_us": goal, **figures})


def cost_us(sockets: Sockets, builder: MessageBuilder, pause_s: float) -> list[float]:
    publisher = Publisher(sockets)
    costs = []
    for index in range(FRAMES):
        embedding = fake_embedding(index, time.monotonic())
        time.sleep(pause_s)
        start = time.perf_counter()
        for message in builder.build(embedding):
            publisher.send(message)
        publisher.send_latest(builder.latest(embedding))
        costs.append((time.perf_counter() - start) * 1e6)
    return costs


def subscribe(context: zmq.Context, port: int, **options: int) -> zmq.Socket:
    socket = context.socket(zmq.SUB)
    socket.linger = 0
    for name, value in options.items():
        socket.setsockopt(getattr(zmq, name), value)
    socket.subscribe(b"")
    socket.connect(f"tcp://127.0.0.1:{port}")
    return socket


if __name__ == "__main__":
    main()
