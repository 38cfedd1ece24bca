"""Verification: recompute what a session published, and compare it with what was recorded, message by message."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from psm_stream.client.messages import Malformed, decode_header, decode_payload
from psm_stream.record.session import SessionInfo
from psm_stream.record.versions import versions
from psm_stream.replay import Replay
from psm_stream.values import Faces, Marker, NoFace, Result
from psm_stream.wire.messages import Message, MessageBuilder

COMPARED = ("embedding", "cluster", "face", "blendshapes")
"""Kinds of message that the pipeline alone determines."""

_OF_THE_RUN = ("session", "t_publish", "seq")
"""Header keys that say who published, when and as which; `seq` is compared relative to the recording's first."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found.

    embeddings: how many were compared and are equal. messages: the same for every kind that is compared.
    difference: the first one, in words, or "".
    tolerance: 0 where every byte had to be equal; else how far a value could be off, because another provider ran.
    max_abs: the largest such distance met. unfinished: messages of the last frame that a cut took from the recording.
    notes: what else people should know, one line each.
    """

    embeddings: int
    messages: int
    difference: str
    tolerance: float
    max_abs: float
    unfinished: int
    notes: tuple[str, ...]


def verify(replay: Replay, progress: Callable[[float], None] = lambda _: None) -> Verdict:
    """Replay a session and compare. progress: told how much of the log is read, 0..1.

    Raises SessionError: the log is damaged. Raises BundleError: an encoder is.
    """
    comparison = _Comparison(replay)
    difference = ""
    try:
        for logged, results in replay.steps():
            if isinstance(logged.value, Message):
                comparison.recorded(logged.value)
            elif isinstance(logged.value, Faces | NoFace | Marker):
                comparison.replayed(results)
            progress(logged.offset / replay.session.size_bytes)
        comparison.end()
    except _Difference as found:
        difference = str(found)
    return Verdict(
        comparison.embeddings,
        comparison.messages,
        difference,
        comparison.tolerance,
        comparison.max_abs,
        comparison.unfinished,
        tuple(_notes(replay)) if difference or comparison.tolerance else (),
    )


class _Difference(Exception):
    """The first difference, in words."""


@dataclass(frozen=True, slots=True)
class _Expected:
    """A message that the replay made. step: which input it follows from. tolerance: for the values of an embedding."""

    message: Message
    step: int
    tolerance: float


class _Comparison:
    """What the replay made and has not been compared yet, and the account."""

    def __init__(self, replay: Replay) -> None:
        info = replay.session.info
        self._replay = replay
        self._builder = MessageBuilder(info.run, _header_format(info), clock=lambda: 0.0)
        self._expected: deque[_Expected] = deque()
        self._first_seq: dict[str, int] = {}
        self._step = 0
        self.embeddings = self.messages = self.unfinished = 0
        self.tolerance = self.max_abs = 0.0

    def replayed(self, results: list[Result]) -> None:
        """Take what the pipeline gives for the next input."""
        self._step += 1
        encoder = self._replay.pipeline.encoder
        if encoder.provider != self._replay.session.info.provider:
            self.tolerance = encoder.bundle.manifest.parity.tolerance
        for result in results:
            for message in self._builder.build(result):
                if message.kind in COMPARED:
                    self._expected.append(_Expected(message, self._step, self.tolerance))

    def recorded(self, message: Message) -> None:
        """Compare a recorded message with the next one that the replay made. Raises _Difference."""
        if message.kind not in COMPARED:
            return
        header = _header(message)
        here = _where(message.topic, header)
        if not self._expected:
            raise _Difference(f"{here}: it is in the recording, and the replay does not make it")
        expected = self._expected.popleft()
        again = _header(expected.message)
        there = _where(expected.message.topic, again)
        if here != there:
            raise _Difference(f"{there}: it is missing from the recording, which goes on with {here}")
        self._compare_headers(here, header, again)
        self._compare_payloads(here, header, message.payload, expected)
        self.messages += 1
        self.embeddings += message.kind == "embedding"

    def end(self) -> None:
        """Check what the recording lacks at its end: a cut may take results of its last frame. Raises _Difference."""
        session = self._replay.session
        finished = session.info.finished
        may_lack = not session.is_finished or (finished is not None and finished.failed)
        for expected in self._expected:
            if not may_lack or expected.step != self._step:
                there = _where(expected.message.topic, _header(expected.message))
                raise _Difference(f"{there}: it is missing from the recording, which ends before it")
        self.unfinished = len(self._expected)

    def _compare_headers(self, where: str, header: Mapping[str, Any], again: Mapping[str, Any]) -> None:
        for key in [*again, *(key for key in header if key not in again)]:
            one, other = header.get(key, "nothing"), again.get(key, "nothing")
            if key not in _OF_THE_RUN and not _same(one, other):
                raise _Difference(f"{where}: header key {key} is {other!r}, {one!r} was recorded")
        first = self._first_seq.setdefault(header["topic"], header["seq"] - again["seq"])
        if header["seq"] != first + again["seq"]:
            raise _Difference(f"{where}: seq is {first + again['seq']}, {header['seq']} was recorded")

    def _compare_payloads(self, where: str, header: Mapping[str, Any], payload: bytes, expected: _Expected) -> None:
        again = expected.message.payload
        if payload == again:
            return
        if len(payload) != len(again):
            raise _Difference(f"{where}: the payload has {len(again)} bytes, {len(payload)} were recorded")
        try:
            one, other = decode_payload(header, payload).ravel(), decode_payload(header, again).ravel()
        except Malformed as error:
            raise _Difference(f"{where}: {error}") from None
        bits = one.view(f"u{one.itemsize}") != other.view(f"u{one.itemsize}")
        first = int(np.argmax(bits))
        with np.errstate(invalid="ignore"):
            away = float(np.max(np.abs(one.astype(np.float64) - other)))
        if expected.message.kind == "embedding" and away <= expected.tolerance:  # False for NaN
            self.max_abs = max(self.max_abs, away)
            return
        raise _Difference(
            f"{where}: value {first} is {other[first]!s}, {one[first]!s} was recorded "
            f"({int(bits.sum())} of {len(one)} differ, by up to {away:.3g})"
        )


def _header(message: Message) -> dict[str, Any]:
    try:
        return decode_header(message.header)
    except Malformed as error:
        raise _Difference(f"a recorded {message.topic} message cannot be read: {error}") from None


def _where(topic: str, header: Mapping[str, Any]) -> str:
    return f"frame {header.get('frame_index')}, {topic}"


def _same(one: object, other: object) -> bool:
    """Equal, NaN included."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other


def _header_format(info: SessionInfo) -> Any:
    section = info.config.get("wire")
    return "json" if isinstance(section, dict) and section.get("header") == "json" else "msgpack"


def _notes(replay: Replay) -> Iterator[str]:
    """What was another when the session was recorded, and may explain a difference."""
    info = replay.session.info
    if replay.pipeline.encoder.provider != info.provider:
        yield f"recorded on {info.provider}, replayed on {replay.pipeline.encoder.provider}"
    here = versions()
    for name, then in info.versions.items():
        if here.get(name) != then:
            yield f"recorded with {name} {then}, replayed with {here.get(name, 'none')}"
