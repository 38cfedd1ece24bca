"""Weights that keep every layer's signal near 1, and a checkpoint folder made of them without torch."""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from psm_export import facecycle

Weights = dict[str, NDArray[np.float32]]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for each other a hundred times longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights() -> Weights:
    """The golden rule: N(0, 1 / sqrt(inputs)) by a seed from each key, so that every layer's signal stays near 1."""
    filled = {}
    for key, shape in facecycle.weight_shapes().items():
        draw = np.random.default_rng(zlib.crc32(f"dev/codegeneration/{key}".encode()))
        tensor = draw.standard_normal(shape).astype(np.float32)
        tensor *= np.float32(1 / math.sqrt(math.prod(shape[1:]))) if len(shape) > 1 else np.float32(0.01)
        filled[key] = tensor
    return filled


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint folder: the encoder's weights, and what its JSON says beside the usual."""

    def write(weights: Weights, **about: Any) -> Path:
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        content = save(weights)
        (folder / "encoder.safetensors").write_bytes(content)
        usual = {
            "schema": 1,
            "design": {"generator": "facecycle"},
            "licence": "unknown",
            "created_by": "a test",
            "note": "",
            "epoch": 0,
            "step": 0,
            "person": None,
            "parent": None,
            "training": {},
            "model_id": "0123456789ab",
            "precision": "fp32",
            "files": {"encoder.safetensors": hashlib.sha256(content).hexdigest(), "generator.safetensors": "0" * 64},
        }
        (folder / "checkpoint.json").write_text(json.dumps(usual | about), encoding="utf-8")
        return folder

    return write
