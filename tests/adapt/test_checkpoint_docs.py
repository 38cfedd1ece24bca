"""docs/checkpoints.md describes every key that checkpoint.json has, and every network."""

import math
import re
from pathlib import Path

from psm_adapt.authors import NETWORKS, layout
from psm_adapt.checkpoint import About
from psm_adapt.networks.design import Design

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")


def test_every_key_is_described() -> None:
    about = {field.alias or name for name, field in About.model_fields.items()}
    described = set(re.findall(r"`([A-Za-z_]+)`", DOCUMENT))
    assert (about | set(Design.model_fields) | set(NETWORKS)) - described == set()


def test_every_file_is_described() -> None:
    assert all(f"{name}.safetensors" in DOCUMENT for name in NETWORKS.values())


def test_the_table_has_the_networks_sizes() -> None:
    for theirs, ours in NETWORKS.items():
        row = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| `{theirs}`"))
        shapes = layout()[ours]
        numbers = sum(map(math.prod, shapes.values()))
        assert row.endswith(f"| {len(shapes)} | {numbers:,} |")
