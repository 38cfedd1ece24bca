"""Subscribe to psm-stream, control it and send it markers, from any program.

    with Subscriber("tcp://127.0.0.1:50120", ["embedding."]) as subscriber:
        for message in subscriber:
            print(message.header["frame_index"], message.array)

Needs zmq, msgpack and numpy, and imports nothing else of this project: the folder can be copied into an experiment.
Every address is that of the control port; the other ports are asked from there.
Each object belongs to the thread that uses it; threads that want the same each make their own.
"""

from .connection import DEFAULT_ADDRESS, ClientError, NoAnswer, NotAnArray, Refused, full_address
from .control import Control, Markers, Offset
from .messages import SCHEMA, ClientMessage, Malformed, decode_header, decode_payload
from .subscriber import LatestReader, Subscriber

__all__ = [
    "DEFAULT_ADDRESS",
    "SCHEMA",
    "ClientError",
    "ClientMessage",
    "Control",
    "LatestReader",
    "Malformed",
    "Markers",
    "NoAnswer",
    "NotAnArray",
    "Offset",
    "Refused",
    "Subscriber",
    "decode_header",
    "decode_payload",
    "full_address",
]
