"""A small RTSP server for tests and trials: H.264 in real time, and it can be cut off, frozen and restored.

Unless it is told to draw something else, each picture carries its number (`psm_stream.testing.number_in`). Source:
RFC 2326 (RTSP 1.0), RFC 3550 (RTP) and RFC 6184 (H.264 in RTP).
"""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction

import av

from psm_stream.testing import numbered_image
from psm_stream.values import Image

_WIDTH, _HEIGHT = 320, 240
_MTU = 1400
_RTP_CLOCK_HZ = 90_000


def _numbered(number: int) -> Image:
    return numbered_image(number, _WIDTH, _HEIGHT)


class RtspServer:
    """Serves rtsp://127.0.0.1:<port>/live over TCP or UDP until it is closed.

    login: "user:password" that a client must give, or "". gop: pictures from one key frame to the next; there is one
    more whenever a client begins, as cameras do it. draw: gives the picture of a number, [H, W, 3] RGB, always of one
    size.
    """

    def __init__(
        self, fps: float = 25.0, login: str = "", gop: int = 50, draw: Callable[[int], Image] = _numbered
    ) -> None:
        self.fps, self.login, self.gop = fps, login, gop
        self._draw = draw
        self.sent: dict[int, float] = {}
        """Number of each picture -> when it was sent, s on `time.monotonic`."""
        self.begun: list[int] = []
        """Number of the first picture that each client got."""
        self.is_frozen = False
        """While True, connections are held and nothing is sent."""
        self._listener: socket.socket | None = None
        self._clients: list[_Client] = []
        self._running = True
        self.port = 0
        self.restore()
        self._streamer = threading.Thread(target=self._stream, daemon=True)
        self._streamer.start()

    @property
    def url(self) -> str:
        """Address of the stream, without the login."""
        return f"rtsp://127.0.0.1:{self.port}/live"

    def cut(self) -> None:
        """Drop everybody and refuse connections, as a camera without power."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def restore(self) -> None:
        """Take connections again, on the same port."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """End for good."""
        self._running = False
        self.cut()
        self._streamer.join(5)

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            client = _Client(connection, self.login)
            self._clients.append(client)
            threading.Thread(target=client.serve, daemon=True).start()

    def _stream(self) -> None:
        encoder = av.CodecContext.create("libx264", "w")
        encoder.time_base = Fraction(1, int(self.fps))
        encoder.height, encoder.width = self._draw(0).shape[:2]
        encoder.pix_fmt = "yuv420p"
        encoder.framerate, encoder.gop_size = int(self.fps), self.gop
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
        encoder.thread_count = 1
        due, number = time.monotonic(), 0
        while self._running:
            frame = av.VideoFrame.from_ndarray(self._draw(number), format="rgb24")
            frame.pts = number
            if not self.is_frozen and any(client.starts() for client in self._clients):
                frame.pict_type = av.video.frame.PictureType.I  # as cameras do
                self.begun.append(number)
            units = [unit for packet in encoder.encode(frame) for unit in _nal_units(bytes(packet))]
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / self.fps
            if not self.is_frozen:
                self.sent[number] = time.monotonic()
                for client in [client for client in self._clients if client.is_playing]:
                    client.send(units, int(number * _RTP_CLOCK_HZ / self.fps))
            number += 1


class _Client:
    """One connection: answers requests, and sends pictures once it plays."""

    def __init__(self, connection: socket.socket, login: str) -> None:
        self._connection = connection
        self._input = connection.makefile("rb")
        self._login = login
        self._udp: socket.socket | None = None
        self._udp_peer = ("", 0)
        self._lock = threading.Lock()
        self._sequence = 0
        self.is_playing = False
        self._has_started = False

    def starts(self) -> bool:
        """True once, when it begins to play."""
        is_first = self.is_playing and not self._has_started
        self._has_started = self._has_started or is_first
        return is_first

    def serve(self) -> None:
        with suppress(OSError, ValueError, struct.error), self._connection, self._input:
            while first := self._input.peek(1)[:1]:
                if first == b"$":  # a receiver report between requests
                    _, _, length = struct.unpack(">BBH", self._input.read(4))
                    self._input.read(length)
                else:
                    method, url, _ = self._input.readline().decode().split(" ", 2)
                    self._answer(method, url, dict(self._read_headers()))

    def send(self, units: list[bytes], timestamp: int) -> None:
        for index, unit in enumerate(units):
            fragments = list(_fragments(unit))
            for part, fragment in enumerate(fragments):
                is_last = index == len(units) - 1 and part == len(fragments) - 1
                self._send_rtp(fragment, timestamp, is_last)

    def close(self) -> None:
        self.is_playing = False
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # wakes `serve`, which closes it
        if self._udp is not None:
            self._udp.close()

    def _read_headers(self) -> Iterator[tuple[str, str]]:
        while (line := self._input.readline().decode().strip()) != "":
            key, _, value = line.partition(":")
            yield key.lower(), value.strip()

    def _answer(self, method: str, url: str, headers: dict[str, str]) -> None:
        wanted = "Basic " + base64.b64encode(self._login.encode()).decode()
        reply, body, status = {"CSeq": headers.get("cseq", "0")}, "", "200 OK"
        if self._login and method != "OPTIONS" and headers.get("authorization") != wanted:
            status, reply["WWW-Authenticate"] = "401 Unauthorized", 'Basic realm="test"'
        elif "/live" not in url:
            status = "404 Not Found"
        elif method == "OPTIONS":
            reply["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
        elif method == "DESCRIBE":
            reply["Content-Type"], body = "application/sdp", _SDP
        elif method == "SETUP":
            reply["Session"], reply["Transport"] = "1", self._set_up(headers["transport"])
        elif method == "PLAY":
            reply["Session"] = "1"
        reply["Content-Length"] = str(len(body))
        head = f"RTSP/1.0 {status}\r\n" + "".join(f"{key}: {value}\r\n" for key, value in reply.items())
        with self._lock:
            self._connection.sendall((head + "\r\n" + body).encode())
        self.is_playing = self.is_playing or (method == "PLAY" and status == "200 OK")

    def _set_up(self, transport: str) -> str:
        if "TCP" in transport:
            return "RTP/AVP/TCP;unicast;interleaved=0-1"
        ports = transport.partition("client_port=")[2].partition(";")[0]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._udp_peer = ("127.0.0.1", int(ports.split("-")[0]))
        own = self._udp.getsockname()[1]
        return f"RTP/AVP;unicast;client_port={ports};server_port={own}-{own + 1}"

    def _send_rtp(self, payload: bytes, timestamp: int, is_last: bool) -> None:
        header = struct.pack(">BBHII", 0x80, 96 | is_last << 7, self._sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 1)
        self._sequence += 1
        packet = header + payload
        with suppress(OSError), self._lock:
            if self._udp is not None:
                self._udp.sendto(packet, self._udp_peer)
            else:
                self._connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)


_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
)


def _nal_units(stream: bytes) -> list[bytes]:
    """Split an H.264 byte stream (Annex B) at its start codes."""
    return [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1") if unit.rstrip(b"\0")]


def _fragments(unit: bytes) -> Iterator[bytes]:
    """Payloads of one NAL unit: itself, or FU-A fragments (RFC 6184, 5.8)."""
    if len(unit) <= _MTU:
        yield unit
        return
    indicator, kind, rest = unit[0] & 0xE0 | 28, unit[0] & 0x1F, unit[1:]
    pieces = [rest[start : start + _MTU] for start in range(0, len(rest), _MTU)]
    for index, piece in enumerate(pieces):
        flags = (0x80 if index == 0 else 0) | (0x40 if index == len(pieces) - 1 else 0)
        yield bytes([indicator, flags | kind]) + piece
