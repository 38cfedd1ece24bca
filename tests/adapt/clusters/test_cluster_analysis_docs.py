"""docs/cluster-analysis.md names every option, key and scaling, and says the published grid."""

import re
from pathlib import Path

from psm_adapt.cli.compare_clusters import _parser
from psm_adapt.clusters.report import as_json
from psm_adapt.clusters.sweep import EPS, MIN_SAMPLES, SCALINGS

TEXT = (Path(__file__).resolve().parents[3] / "docs/cluster-analysis.md").read_text(encoding="utf-8")


def test_options():
    documented = set(re.findall(r"^\| `(--[a-z-]+)", TEXT, re.MULTILINE))
    assert documented == set(_parser().option_names()) - {"--help", "--debug", "--version"}
    assert all(f"`{name}`" in TEXT for name in SCALINGS)


def test_the_grid():
    assert f"default {','.join(f'{one:g}' for one in EPS)}" in TEXT
    assert f"default {','.join(map(str, MIN_SAMPLES))}" in TEXT


def test_keys(result):
    tree = as_json(result)
    person = tree["people"][0]
    for key in {*tree, *person, *person["by_setting"][0], *person["finest"]} - {"schema", "created_by", "person"}:
        assert key in TEXT, key
