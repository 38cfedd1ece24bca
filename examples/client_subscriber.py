"""React to the newest face with psm_stream.client: how far is it from a resting face?

The first frames are taken as rest. `latest` gives the present even when this loop is slow. The bar is full at the
largest movement so far.

    python client_subscriber.py [ADDRESS] [FRAMES]
"""

import sys

import numpy as np

from psm_stream.client import ClientError, Subscriber

REST_FRAMES = 10
BAR = 40


def main(address: str = "tcp://127.0.0.1:50120", frames: str = "300") -> None:
    if not frames.isdecimal():
        sys.exit(f"error: FRAMES is {frames!r}; give a whole number")
    largest = 0.0
    with Subscriber(address, ["embedding."]) as subscriber:
        rest = np.mean([message.array for message, _ in zip(subscriber, range(REST_FRAMES), strict=False)], axis=0)
        for _ in range(int(frames)):
            message = subscriber.latest(timeout_s=2.0)
            if message is None:
                print("no face, or no frames", flush=True)
                continue
            distance = float(np.linalg.norm(message.array - rest))
            largest = max(largest, distance)
            bar = "#" * round(BAR * distance / largest) if largest > 0 else ""
            print(f"frame {message.header['frame_index']:>6}  movement {distance:9.3g}  {bar}", flush=True)
        print(f"lost {subscriber.lost}, passed over {subscriber.skipped}, unreadable {subscriber.malformed}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ClientError as error:
        sys.exit(f"error: {error}")
