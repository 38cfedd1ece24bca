"""psm-watch: subscribe and print, one line per message."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from psm_stream.cli.common import Parser, nearest, put, run
from psm_stream.client import DEFAULT_ADDRESS, ClientError, ClientMessage, Control, Subscriber, full_address
from psm_stream.errors import ConfigError, PsmError
from psm_stream.wire.messages import json_bytes
from psm_stream.wire.schema import HEADER, TOPICS

COMMON_KEYS = frozenset(key.name for key in HEADER)
LEFT_OUT = frozenset({"t_notice", "figures"})
"""Of a notice, in lines for people; --json has them."""
FIRST = ("cluster_version", "model_id", "model_epoch")
"""Keys of every header that a notice gives a meaning of its own, and psm-watch prints first."""
PUBLISHED = [topic.topic.partition("<")[0] for topic in TOPICS if topic.kind != "latest"]
ANSWER_WITHIN_S = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run psm-watch; returns the exit code."""
    return run(watch, argv)


def watch(argv: Sequence[str]) -> int:
    """Print messages until --count of them came, the reader of the output left, or Ctrl-C."""
    options = _options(argv)
    try:
        _print_all(options)
    except ClientError as error:
        raise PsmError(str(error)) from None
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("psm-watch", "Subscribe to a running psm-stream or psm-replay and print what it publishes.")
    parser.add_argument(
        "--connect", metavar="ADDRESS", default=DEFAULT_ADDRESS, help="control port: tcp://host:port, host:port or port"
    )
    parser.add_argument(
        "--topic", metavar="PREFIX", action="append", default=[], help="only these topics; may be given again"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, payload as list")
    parser.add_argument("--count", metavar="N", type=int, help="exit after N messages")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        help=f"give up when nobody answers ({ANSWER_WITHIN_S:g} by default) or no message comes for so long (never)",
    )
    options = parser.parse(argv)
    if options.count is not None and options.count < 1:
        raise ConfigError(f"--count must be at least 1, not {options.count}")
    if options.timeout is not None and not 0 < options.timeout < math.inf:
        raise ConfigError(f"--timeout must be a number of seconds above 0, not {options.timeout}")
    for prefix in options.topic:
        if not any(topic.startswith(prefix) or prefix.startswith(topic) for topic in PUBLISHED):
            raise ConfigError(f"no topic starts with {prefix!r}{nearest(prefix, PUBLISHED)}")
    try:
        full_address(options.connect)
    except ClientError as error:
        raise ConfigError(f"--connect: {error}") from None
    return options


def _print_all(options: argparse.Namespace) -> None:
    answer_within_s = options.timeout or ANSWER_WITHIN_S
    with Control(options.connect, timeout_s=answer_within_s) as control:
        offset_s = control.offset().offset_s
    with Subscriber(options.connect, options.topic or [""], timeout_s=answer_within_s) as subscriber:
        lost = 0
        for message in _messages(subscriber, options.count, options.timeout):
            age_ms = (message.t_receive + offset_s - message.header["t_capture"]) * 1000
            if options.json:
                text = as_json(message, age_ms, subscriber.lost)
            else:
                text = _loss(subscriber.lost - lost) + as_line(message, age_ms)
            if not put(text):
                return
            lost = subscriber.lost


def _loss(count: int) -> str:
    return f"-- {count} message(s) lost: this reader is slower than the stream\n" if count else ""


def _messages(subscriber: Subscriber, count: int | None, timeout_s: float | None) -> Iterator[ClientMessage]:
    taken = 0
    while count is None or taken < count:
        message = subscriber.receive(timeout_s)
        if message is None:
            raise PsmError(f"no message within {timeout_s:g} s; check --topic, or give --timeout more")
        taken += 1
        yield message


def as_json(message: ClientMessage, age_ms: float, lost: int) -> str:
    """Return the header's keys, then `payload` (nested list, text, map or null), `age_ms` and `lost`; NaN is null."""
    value = message.value.tolist() if isinstance(message.value, np.ndarray) else message.value
    return json_bytes({**message.header, "payload": value, "age_ms": round(age_ms, 3), "lost": lost}).decode()


def as_line(message: ClientMessage, age_ms: float) -> str:
    """Return one calm line: topic, frame, age since capture, and what matters for this kind of topic."""
    header = message.header
    frame = f"frame {header['frame_index']:>6}" if header.get("frame_index", -1) >= 0 else " " * 12
    age = f"{age_ms:7.1f} ms" if math.isfinite(age_ms) else " " * 10
    return f"{message.topic:<16} {frame} {age}  {_essence(message)}".rstrip()


def _essence(message: ClientMessage) -> str:
    header = message.header
    kind = message.topic.partition(".")[0]
    if kind == "embedding":
        length = float(np.linalg.norm(message.array))
        cluster = f"  cluster {header['cluster']}" if header["cluster"] >= 0 else ""
        return f"length {length:8.3f}  confidence {header['confidence']:.2f}  model {header['model_id']}{cluster}"
    if kind == "face":
        return f"confidence {header['confidence']:.2f}  box {' '.join(f'{side:.0f}' for side in header['box'])} px"
    if kind == "blendshapes":
        return f"strongest {int(message.array.argmax())} at {float(message.array.max()):.2f}"
    if kind == "cluster":
        return _cluster(header)
    if kind == "stats":
        return _meaning(message.value) if message.topic == "stats.clusters" else _statistics(message.value)
    return json.dumps(message.value, ensure_ascii=False)[1:-1] if kind in ("marker", "log") else _facts(header)


def _facts(header: Mapping[str, Any]) -> str:
    """Whatever keys it has of its own."""
    own = {name: header[key] for name, key in (("face", "face_id"), ("cluster", "cluster")) if header[key] >= 0}
    own |= {key: header[key] for key in FIRST if header[key]}
    own |= {key: value for key, value in header.items() if key not in COMMON_KEYS | LEFT_OUT}
    return "  ".join(f"{key} {_short(value)}" for key, value in own.items() if not _is_nan(value))


def _cluster(header: Mapping[str, Any]) -> str:
    word = " ".join(part for part in (header.get("token"), header.get("name")) if part)
    cluster = "none" if header["cluster"] < 0 else f"{header['cluster']}"
    strength, outlier = header["cluster_strength"], header["outlier"]
    return f"cluster {cluster:<5} strength {strength:.2f}  outlier {outlier:.2f}  {word}".rstrip()


def _meaning(table: Mapping[str, Any]) -> str:
    shares = (f"{one['name'] or one['cluster']} {one['share'] or 0:.0%}" for one in table.get("clusters", []))
    return "  ".join((f"clusters {table.get('version')}:", *shares, f"none {table['noise']['share'] or 0:.0%}"))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _short(value: object) -> str:
    """A value as JSON, a float with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _statistics(summary: Mapping[str, Any]) -> str:
    frames = summary.get("frames", {})
    latency = summary.get("latency_ms", {}).get("capture_to_publish", {})
    facts = {
        "fps": summary.get("fps"),
        "processed": frames.get("processed"),
        "dropped": sum(frames.get("dropped", {}).values()),
        "p95 ms": latency.get("p95"),
    }
    return "  ".join(
        f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in facts.items()
        if value is not None
    )
