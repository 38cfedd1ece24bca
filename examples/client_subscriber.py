"""React to the newest face with psm_stream.client: how far is it from a resting face?

The first frames are taken as rest. `latest` gives the present even when this loop is slow.

    python client_subscriber.py [ADDRESS] [FRAMES]
"""

import sys

import numpy as np

from psm_stream.client import ClientError, Subscriber

REST_FRAMES = 10


def main(address: str = "tcp://127.0.0.1:50120", frames: str = "300") -> None:
    with Subscriber(address, ["embedding."]) as subscriber:
        rest = np.mean([message.array for message, _ in zip(subscriber, range(REST_FRAMES), strict=False)], axis=0)
        for _ in range(int(frames)):
            message = subscriber.latest(timeout_s=2.0)
            if message is None:
                print("no face, or no frames", flush=True)
                continue
            distance = np.linalg.norm(message.array - rest)
            print(
                f"frame {message.header['frame_index']:>6}  movement {distance:8.3f}  {'#' * int(distance)}", flush=True
            )
        print(f"lost {subscriber.lost}, passed over {subscriber.skipped}, unreadable {subscriber.malformed}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ClientError as error:
        sys.exit(f"error: {error}")
