"""Training: one loop (`loop.py`) over any Task (`task.py`); `cycle.py` is the task of the six published approaches."""
