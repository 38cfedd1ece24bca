"""Receive embeddings with zmq, msgpack and numpy alone: all it takes in any Python.

psm-stream --source demo                    # in one terminal
python python_subscriber.py                 # in another; stop with Ctrl-C
python python_subscriber.py tcp://localhost:50120 100
"""

import sys
import time

import msgpack
import numpy as np
import zmq

address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:50120"
if len(sys.argv) > 2 and not sys.argv[2].isdecimal():
    sys.exit(f"COUNT is {sys.argv[2]!r}; give a whole number")
count = int(sys.argv[2]) if len(sys.argv) > 2 else None

context = zmq.Context()
control = context.socket(zmq.REQ)  # one port is known, the others are asked
control.connect(address)
control.send_string("SUB_PORT")
if not control.poll(3000):
    context.destroy(linger=0)
    sys.exit(f"nobody answers at {address}; start psm-stream first")
subscriber = context.socket(zmq.SUB)
subscriber.subscribe("embedding.")
subscriber.connect(f"{address.rpartition(':')[0]}:{control.recv_string()}")

expected = None
while count is None or count > 0:
    topic, header, payload = subscriber.recv_multipart()
    header = msgpack.unpackb(header)
    vector = np.frombuffer(payload, header["dtype"]).reshape(header["shape"])
    lost = 0 if expected is None else header["seq"] - expected  # this reader was too slow
    expected = header["seq"] + 1
    age_ms = (time.monotonic() - header["t_capture"]) * 1000  # same machine, same clock
    print(f"{topic.decode()} frame {header['frame_index']} age {age_ms:.1f} ms lost {lost} {vector[:3]}", flush=True)
    count = None if count is None else count - 1
context.destroy(linger=0)
