"""Measure from capture to a separate subscriber process, and print it as JSON.

t_receive is taken here, right after a message left the socket; t_capture comes in its header. On one machine both are
of the same clock (CLOCK_MONOTONIC on Linux); from another machine the clocks' offset is measured first, and
`clock_error_ms` bounds what that may be wrong by. `lost` are messages that this process was too slow for,
`frames_missing` frames without an embedding (dropped by the stream, or without a face).

    python measure_latency.py --seconds 30
    python measure_latency.py --connect 127.0.0.1:50120 --topic embedding. --count 1000
"""

import argparse
import json
import sys
import time

import numpy as np

from psm_stream.client import DEFAULT_ADDRESS, ClientError, Control, Subscriber


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency from capture to this process, as JSON.")
    parser.add_argument("--connect", default=DEFAULT_ADDRESS, metavar="ADDRESS", help="control port")
    parser.add_argument("--topic", default="embedding.", metavar="PREFIX")
    parser.add_argument("--count", type=int, default=sys.maxsize, metavar="N", help="stop after N messages")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="stop after S seconds")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave the first N messages out")
    options = parser.parse_args()
    with Control(options.connect) as control:
        offset = control.offset()
    is_shared = abs(offset.offset_s) <= offset.round_trip_s / 2  # as on one machine
    offset_s, error_s = (0.0, 0.0) if is_shared else (offset.offset_s, offset.round_trip_s / 2)
    with Subscriber(options.connect, [options.topic]) as subscriber:
        latencies_ms, frames = measure(subscriber, options, offset_s)
        report = {"n": len(latencies_ms), "lost": subscriber.lost, "malformed": subscriber.malformed}
    if latencies_ms:
        p50, p95, p99 = np.percentile(latencies_ms, [50, 95, 99]).round(3).tolist()
        report |= {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": round(max(latencies_ms), 3)}
        report |= {"frames_missing": frames[-1] - frames[0] + 1 - len(set(frames))}
    print(json.dumps(report | {"clock_shared": is_shared, "clock_error_ms": round(error_s * 1000, 3)}))


def measure(subscriber: Subscriber, options: argparse.Namespace, offset_s: float) -> tuple[list[float], list[int]]:
    latencies_ms: list[float] = []
    frames: list[int] = []
    end = time.monotonic() + options.seconds
    taken = 0
    try:
        while taken < options.skip + options.count and time.monotonic() < end:
            message = subscriber.receive(end - time.monotonic())
            if message is None or message.header["frame_index"] < 0:
                continue
            taken += 1
            if taken > options.skip:
                latencies_ms.append((message.t_receive + offset_s - message.header["t_capture"]) * 1000)
                frames.append(message.header["frame_index"])
    except KeyboardInterrupt:
        pass  # report what there is
    return latencies_ms, frames


if __name__ == "__main__":
    try:
        main()
    except ClientError as error:
        sys.exit(f"error: {error}")
