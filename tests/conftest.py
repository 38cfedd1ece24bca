"""Fixtures for all tests."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("shared cores", deadline=None)  # how long an example takes says nothing on a busy machine
settings.load_profile("shared cores")

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real face videos; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("PSM_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no face videos at {folder}; set PSM_DATA to a folder that holds them")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers in every run."""
    return np.random.default_rng(0)
