"""docs/clusters.md names every setting, key, notice, unit and formula, as the code has them."""

from pathlib import Path
from typing import Any, get_args

import pytest
from tests.stream.clusters.test_account import account_of, embedding

from psm_stream.clusters.clustering import Kind
from psm_stream.clusters.units import UNITS, Unit
from psm_stream.config import ClustersSettings

TEXT = (Path(__file__).resolve().parents[3] / "docs/clusters.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_and_formulae(unit: Unit) -> None:
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| {unit.name} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == unit.meaning
    assert cells[2] == (unit.shapes[0].removesuffix("Left") + ", ".join([" L", "R"][: 2 * (len(unit.shapes) > 1)]))
    assert cells[3] == unit.formula or not unit.formula


def test_settings_and_their_defaults() -> None:
    rows = [line.strip("|").split("|") for line in TEXT.splitlines() if line.startswith("| `clusters.")]
    pairs = [pair for row in rows for pair in zip(row[0].split(","), row[1].split(","), strict=False)]
    defaults = {name.strip(" `"): default.strip().replace("none", "None") for name, default in pairs}
    settings = {f"clusters.{name}": field.default for name, field in ClustersSettings.model_fields.items()}
    assert settings.pop("clusters.method") == "hdbscan"
    assert defaults.keys() - {"clusters.method"} == settings.keys()
    for name, default in settings.items():
        shown = f"{default:g}" if isinstance(default, int | float) and not isinstance(default, bool) else str(default)
        assert defaults[name] == shown


def test_keys_of_the_table() -> None:
    table = account_of([embedding(0.0, 0), embedding(0.1, 1)]).table()
    for key in _keys(table):
        assert f"`{key}`" in TEXT or f"`{key}[]`" in TEXT, key


def test_notices() -> None:
    for kind in (*get_args(Kind), "fitted"):
        assert f"| `notify.cluster.{kind}` |" in TEXT


def _keys(tree: Any) -> set[str]:
    if isinstance(tree, list):
        return set().union(*map(_keys, tree))
    if not isinstance(tree, dict):
        return set()
    own = {key for key in tree if not key.startswith("AU")}
    return own.union(*map(_keys, tree.values()))
