"""docs/wire.md is true: its tables are the program's, its bytes are what the program makes and others can read.

`python tests/stream/wire/test_wire_golden.py` prints the section "Golden bytes" anew after a wanted change.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from psm_stream.client import decode_header, decode_payload
from psm_stream.config import WireSettings
from psm_stream.values import AlignedFace, Assignment, Embedding, Marker, NoFace, Notice, Stamp
from psm_stream.wire import control, markers, ports
from psm_stream.wire.messages import LogLine, Message, MessageBuilder
from psm_stream.wire.schema import HEADER, SCHEMA, TOPICS

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "wire.md"
SESSION = "0123456789abcdef0123456789abcdef"


def golden_messages() -> dict[str, Message]:
    """The messages that the document shows, by title."""
    builder = MessageBuilder(SESSION, "msgpack", lambda: 1234.5078125)
    face = AlignedFace(
        frame=Stamp(42, 1234.5, 1.40625),
        face_id=0,
        crop=np.zeros((8, 8, 3), np.uint8),
        landmarks=np.array([[10, 40.5], [30, 20]], np.float32),
        to_crop=np.array([[2, 0, -3.5], [0, 2, 8]], np.float32),
        confidence=0.96875,
    )
    embedding = Embedding(face, np.array([0, 1, -0.5, 2], np.float32), "8a1c5f0e93d7", 1)
    no_face = NoFace(Stamp(43, 1234.5, 1.4375), "no face found")
    assigned = replace(embedding, assignment=Assignment(3, 0.75, 0.125, 2, "smile"))
    builder.embedding(embedding)  # so that the one shown is the second of its topic
    as_json = MessageBuilder(SESSION, "json", lambda: 1234.5078125)
    return {
        "embedding.00": builder.embedding(embedding),
        "cluster.00": builder.cluster(assigned),
        "face.00": builder.face(face),
        "marker.remote": builder.marker(Marker("tone 4", 1234.25, "remote", {"t": 17.5, "trial": 3})),
        "notify.face.found": builder.notice(
            Notice("face.found", 1234.5, {"frame_index": 42, "t_capture": 1234.5, "face_id": 0})
        ),
        "notify.cluster.split": builder.notice(
            Notice(
                "cluster.split",
                1234.5,
                {
                    "frame_index": 42,
                    "model_id": "8a1c5f0e93d7",
                    "cluster_version": 2,
                    "cluster": 3,
                    "others": [7],
                    "points": 64,
                },
            )
        ),
        "stats.pipeline": builder.stats({"fps": 29.97, "frames": {"captured": 45, "processed": 43}}),
        "heartbeat.psm": builder.heartbeat(),
        "log.warning": builder.log(LogLine("warning", "hot", 1234.5)),
        "latest.00": builder.latest(embedding),
        "latest.00 without a face": builder.latest_without_face(no_face, 4, "8a1c5f0e93d7", 1),
        "embedding.00 with a JSON header": as_json.embedding(embedding),
    }


def parts_of(title: str, message: Message) -> dict[str, bytes]:
    if title.startswith("latest"):
        return {"part": message.framed()}
    return dict(zip(("topic", "header", "payload"), message.parts(), strict=True))


def render() -> str:
    """The section as the document has it."""
    lines = []
    for title, message in golden_messages().items():
        lines += ["", f"### {title}", "", "```golden"]
        for name, data in parts_of(title, message).items():
            text = data.hex()
            rows = [text[start : start + 96] for start in range(0, len(text), 96)] or [""]
            lines += [f"{name + ':':<8} {rows[0]}".rstrip(), *(f"{'':<8} {row}" for row in rows[1:])]
        said = json.dumps(spelled(decode_header(message.header)))
        lines += ["```", "", "```json", said, "```"]
    return "\n".join(lines) + "\n"


def spelled(header: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in header.items()}


def documented() -> dict[str, tuple[dict[str, bytes], dict[str, Any]]]:
    """Title -> the parts in the document, and what it says the header says."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Golden bytes")[2]
    found = {}
    for title, golden, said in re.findall(
        r"### (.+?)\n\n```golden\n(.*?)```\n\n```json\n(.*?)\n```", section, re.DOTALL
    ):
        parts = {name: bytes.fromhex(text) for name, text in re.findall(r"(\w+):([0-9a-f\s]*)", golden)}
        found[title] = parts, json.loads(said)
    return found


def header_and_payload(parts: dict[str, bytes]) -> tuple[bytes, bytes]:
    if "part" not in parts:
        return parts["header"], parts["payload"]
    (length,) = struct.unpack_from("<I", parts["part"])
    return parts["part"][4 : 4 + length], parts["part"][4 + length :]


TITLES = list(golden_messages())


def test_the_document_lists_every_announcement():
    sources = Path(control.__file__).parents[1].rglob("*.py")
    announced = {
        subject for path in sources for subject in re.findall(r'Notice\("([a-z.]+)"', path.read_text(encoding="utf-8"))
    }
    subjects = DOCUMENT.read_text(encoding="utf-8").partition("Subjects of `notify`:")[2].partition("and others")[0]
    assert announced == set(re.findall(r"`([a-z.]+)`", subjects))


def test_the_document_shows_these_messages():
    assert list(documented()) == TITLES


@pytest.mark.parametrize("title", TITLES)
def test_the_program_makes_the_documented_bytes(title):
    assert parts_of(title, golden_messages()[title]) == documented()[title][0]


@pytest.mark.parametrize("title", TITLES)
def test_msgpack_and_json_read_the_documented_bytes(title):
    parts, said = documented()[title]
    header, _ = header_and_payload(parts)
    read = json.loads(header) if header.startswith(b"{") else msgpack.unpackb(header)
    assert spelled(read) == said
    assert list(read) == list(said)
    assert read["topic"] == title.split()[0]


@pytest.mark.parametrize("title", TITLES)
def test_the_client_reads_the_documented_bytes(title):
    header, payload = header_and_payload(documented()[title][0])
    value = decode_payload(decode_header(header), payload)
    expected = {
        "embedding.00": [0, 1, -0.5, 2],
        "latest.00": [0, 1, -0.5, 2],
        "embedding.00 with a JSON header": [0, 1, -0.5, 2],
        "face.00": [[10, 40.5], [30, 20]],
        "marker.remote": "tone 4",
        "log.warning": "hot",
        "cluster.00": None,
        "notify.face.found": None,
        "notify.cluster.split": None,
        "heartbeat.psm": None,
        "stats.pipeline": {"fps": 29.97, "frames": {"captured": 45, "processed": 43}},
    }
    if title == "latest.00 without a face":
        assert np.isnan(value).all()
    else:
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == expected[title]


class Walker:
    """Reads msgpack by its specification with struct alone: what a client in another language would do."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self, length: int) -> str:
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self) -> Any:
        first = self.take("B")
        numbers = {0xCA: ">f", 0xCB: ">d", 0xCC: "B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: "b", 0xD1: ">h"}
        if first in numbers:
            return self.take(numbers[first])
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 256
        if first & 0xE0 == 0xA0 or first == 0xD9:
            return self.text(self.take("B") if first == 0xD9 else first & 0x1F)
        if first & 0xF0 == 0x90:
            return [self.value() for _ in range(first & 0x0F)]
        if first & 0xF0 == 0x80 or first == 0xDE:
            count = self.take(">H") if first == 0xDE else first & 0x0F
            return {self.value(): self.value() for _ in range(count)}
        raise AssertionError(f"a header must not use msgpack type {first:#x}")


@pytest.mark.parametrize("title", [title for title in TITLES if "JSON" not in title])
def test_the_header_can_be_read_without_msgpack(title):
    parts, said = documented()[title]
    header, _ = header_and_payload(parts)
    walker = Walker(header)
    assert spelled(walker.value()) == said
    assert walker.at == len(header)


def test_an_embedding_can_be_read_with_struct_alone():
    parts, _ = documented()["embedding.00"]
    header = Walker(parts["header"]).value()
    assert parts["topic"] == b"embedding.00"
    assert (header["schema"], header["seq"], header["session"]) == (1, 1, SESSION)
    assert (header["frame_index"], header["t_capture"], header["t_publish"]) == (42, 1234.5, 1234.5078125)
    assert (header["model_id"], header["model_epoch"]) == ("8a1c5f0e93d7", 1)
    assert (header["dtype"], header["shape"]) == ("<f4", [4])
    assert struct.unpack("<4f", parts["payload"]) == (0.0, 1.0, -0.5, 2.0)


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without back quotes."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table]


def test_the_header_table_is_the_programs():
    assert rows("Header") == [[key.name, key.type, key.unit, key.missing, key.meaning] for key in HEADER]


def test_the_topic_table_is_the_programs():
    expected = [[topic.topic, topic.payload, ", ".join(topic.keys), topic.meaning.replace("`", "")] for topic in TOPICS]
    assert rows("Topics") == expected


def test_the_ports_are_the_programs():
    first = WireSettings().control_port
    assert [row[:2] for row in rows("Ports")] == [
        [str(first + offset), name] for offset, name in enumerate(ports.Ports.__dataclass_fields__)
    ]


def test_every_command_is_documented():
    text = DOCUMENT.read_text(encoding="utf-8")
    for command in (*control.ORDERS, "t", "v", "SUB_PORT", "PUB_PORT", "LATEST_PORT", "MARKER_PORT", "INFO", "SCHEMA"):
        assert re.search(rf"`{command}[` ]", text), command


def test_every_limit_is_documented():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"`schema` {SCHEMA}" in text
    for limit in (ports.SEND_QUEUE, ports.INBOUND_MAX_BYTES, markers.LABEL_MAX_BYTES, markers.FIELDS_MAX_DEPTH):
        assert f" {limit} " in text or f"\n{limit} " in text, limit


if __name__ == "__main__":
    print(render(), end="")
