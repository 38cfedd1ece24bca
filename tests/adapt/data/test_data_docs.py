"""docs/data.md describes every array, key, layout, option and approach, and its example runs."""

import json
import re
from pathlib import Path

import pytest

from psm_adapt.cli.crops import job
from psm_adapt.data.columns import COLUMNS
from psm_adapt.data.layouts import LAYOUTS
from psm_adapt.data.pairs import PAIRINGS
from psm_adapt.data.store import STORE, Making, Recording, Skipped, StoreAbout

TEXT = (Path(__file__).resolve().parents[3] / "docs/data.md").read_text(encoding="utf-8")


def test_every_array_has_its_row():
    for column in COLUMNS.values():
        shape = ", ".join(["N", *map(str, column.shape)])
        dtype = {"|u1": "uint8", "<f8": "float64", "<i4": "int32", "<i8": "int64", "<f4": "float32"}[column.dtype]
        assert f"| `{column.name}` | {dtype} [{shape}] |" in TEXT


def test_every_key_of_the_store_is_described(make_store):
    about = json.loads((make_store(("a", "ann", 1)).folder / STORE).read_text())
    assert set(about) == {"schema", *StoreAbout.model_fields} - {"schema_version"}
    keys = {*about, *Recording.model_fields, *Making.model_fields, *Skipped.model_fields}
    assert keys - set(re.findall(r"`([a-z_]+)`", TEXT)) == set()


@pytest.mark.parametrize("names", [LAYOUTS, PAIRINGS])
def test_every_entry_of_a_table_has_its_row(names):
    for name in names:
        assert f"\n| `{name}` |" in TEXT


def test_every_option_has_its_row(capsys):
    with pytest.raises(SystemExit):
        job(["--help"])
    options = set(re.findall(r"(--[a-z-]+)", capsys.readouterr().out)) - {"--help", "--debug", "--version"}
    described = set(re.findall(r"^\| `(--[a-z-]+)", TEXT, re.MULTILINE))
    assert options == described


def test_its_example_runs(make_store, monkeypatch, capsys):
    store = make_store(("a", "ann", 3))
    monkeypatch.chdir(store.folder.parent)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(code)
    assert capsys.readouterr().out.split() == ["('ann',)", "3", store.store_id]
