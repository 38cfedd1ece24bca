"""What lies where in the folder of an adaptation; worker, stream, sessions and people's store share it.

snapshot.npz, out/      what the worker is given, and where it writes
out/adaptation.json     how it ended
out/bundle/             if it was accepted: what the live path runs
out/checkpoint/         and the weights that further training starts from, with checkpoint.json
"""

from __future__ import annotations

SNAPSHOT = "snapshot.npz"
OUT = "out"
ADAPTATION = "adaptation.json"
BUNDLE = "bundle"
CHECKPOINT = "checkpoint"
CHECKPOINT_ABOUT = "checkpoint.json"
