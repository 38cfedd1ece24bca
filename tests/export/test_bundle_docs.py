"""docs/bundle.md describes every key that a manifest has."""

import json
import re
from pathlib import Path

from psm_stream.bundle import general_bundle

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "bundle.md"


def test_every_key_is_described() -> None:
    manifest = json.loads((general_bundle() / "manifest.json").read_text(encoding="utf-8"))
    nested = [key for section in ("input", "output", "alignment", "parity") for key in manifest[section]]
    described = set(re.findall(r"`([a-z_]+)`", DOCUMENT.read_text(encoding="utf-8")))
    assert {*manifest, *nested} - described == set()
