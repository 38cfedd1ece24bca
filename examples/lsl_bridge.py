"""Offer the stream to Lab Streaming Layer: embeddings and markers as two LSL streams, with the times of capture.

    pip install pylsl
    python lsl_bridge.py [ADDRESS]              # stop with Ctrl-C; LabRecorder then sees psm-embedding and psm-markers

LSL's clock is `pylsl.local_clock()`, which on Linux is the clock of psm-stream. Elsewhere, or from another machine, the
bridge converts: LSL time = service time - offset + (LSL now - monotonic now), the offset measured once a minute.
"""

import json
import sys
import time

from psm_stream.client import DEFAULT_ADDRESS, ClientError, Control, Subscriber

try:
    import pylsl
except ImportError:
    sys.exit("error: pylsl is not installed; pip install pylsl")

MEASURE_EVERY_S = 60.0


def to_lsl(control: Control) -> float:
    """What to add to a time of the service to get LSL's, s."""
    return pylsl.local_clock() - time.monotonic() - control.offset().offset_s


def outlets(session: str, channels: int) -> tuple[pylsl.StreamOutlet, pylsl.StreamOutlet]:
    """Irregular rate: every sample has its own time of capture."""
    embedding = pylsl.StreamInfo("psm-embedding", "Face", channels, pylsl.IRREGULAR_RATE, "float32", f"psm-{session}")
    markers = pylsl.StreamInfo("psm-markers", "Markers", 1, pylsl.IRREGULAR_RATE, "string", f"psm-markers-{session}")
    return pylsl.StreamOutlet(embedding), pylsl.StreamOutlet(markers)


def bridge(address: str) -> None:
    with Control(address) as control, Subscriber(address, ["embedding.00", "marker.", "notify."]) as subscriber:
        first = next(message for message in subscriber if message.topic == "embedding.00")
        embedding, markers = outlets(first.header["session"], first.array.size)
        print(f"psm-embedding ({first.array.size} channels) and psm-markers are on LSL", flush=True)
        shift_s = measured = -MEASURE_EVERY_S
        for message in subscriber:
            if time.monotonic() - measured > MEASURE_EVERY_S:
                shift_s, measured = to_lsl(control), time.monotonic()
            header = message.header
            if message.topic == "embedding.00":
                embedding.push_sample(message.array.tolist(), header["t_capture"] + shift_s)
            elif message.topic.startswith("marker."):
                markers.push_sample(
                    [json.dumps({"label": header["label"], **header["fields"]})], header["t_marker"] + shift_s
                )
            else:
                markers.push_sample([message.topic], header["t_notice"] + shift_s)


if __name__ == "__main__":
    try:
        bridge(sys.argv[1] if len(sys.argv) > 1 else DEFAULT_ADDRESS)
    except ClientError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
