"""Do something when the face comes into a cluster: here, print a line and put a marker into the recording.

See what the clusters are (`psm-watch --topic stats.clusters`, or the report of a session), name the one that you want
with the control command `L 3 smile`, and wait for it by that name; a number does as well. Numbers mean the same all
session long, and with `psm-stream --person NAME` the next time, too. Frames between two expressions are in no cluster:
only after HOLD_S out of it does a face come into it anew.

    python react_to_cluster.py NAME_OR_NUMBER [TIMES] [ADDRESS]
"""

import sys

from psm_stream.client import ClientError, Control, Subscriber

HOLD_S = 0.3


def main(wanted: str, times: str = "10", address: str = "tcp://127.0.0.1:50120") -> None:
    if not times.isdecimal():
        sys.exit(f"error: TIMES is {times!r}; give a whole number")
    left, was_there_at = int(times), float("-inf")
    with Control(address) as control, Subscriber(address, ["cluster.00"]) as subscriber:
        for message in subscriber:
            if left == 0:
                return
            header = message.header
            if wanted not in (header["name"], str(header["cluster"])):
                continue
            now = header["t_capture"]
            if now - was_there_at > HOLD_S:
                print(
                    f"{wanted} at frame {header['frame_index']}, strength {header['cluster_strength']:.2f}", flush=True
                )
                control.send(f"A face {wanted}")
                left -= 1
            was_there_at = now


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("error: which cluster? give its name or number")
    try:
        main(*sys.argv[1:])
    except ClientError as error:
        sys.exit(f"error: {error}")
