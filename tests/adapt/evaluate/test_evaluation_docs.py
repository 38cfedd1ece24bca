"""docs/evaluation.md names every protocol, figure, option, key and action unit, and its example runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from tests.adapt.evaluate.conftest import blendshapes_of, recorded

from psm_adapt.cli.evaluate import _parser
from psm_adapt.data.writer import write_store
from psm_adapt.evaluate import probing, viewing
from psm_adapt.evaluate.blendshape_labels import PROXIES
from psm_adapt.evaluate.clips import clips_of
from psm_adapt.evaluate.evaluation import Plan, evaluate
from psm_adapt.evaluate.features import BASELINES, Model
from psm_adapt.evaluate.labels import read_labels
from psm_adapt.evaluate.measures import Kind
from psm_adapt.evaluate.protocols import GROUPS, PROTOCOLS
from psm_adapt.evaluate.report import as_json

TEXT = (Path(__file__).resolve().parents[3] / "docs/evaluation.md").read_text(encoding="utf-8")


def table_of(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading, without its two first lines."""
    lines = TEXT.split(heading, 1)[1].split("\n")
    start = next(n for n, line in enumerate(lines) if line.startswith("|"))
    end = next(n for n, line in enumerate(lines[start:], start) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[start + 2 : end]]


def names_in(text: str) -> set[str]:
    return set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text))


def test_options():
    documented = {row[0].split()[0].strip("`") for row in table_of("INPUT is a crop store")}
    assert documented == set(_parser().option_names()) - {"--help", "--debug", "--version"}
    assert set(BASELINES) <= names_in(TEXT)


def test_protocols_and_figures():
    kinds = [kind for module in (probing, viewing) for kind in vars(module).values() if isinstance(kind, Kind)]
    documented = {row[0].strip("`"): names_in(row[1]) for row in table_of("## Protocols")}
    assert documented == {name: {kind.key for kind in kinds if kind.key.split(".")[0] == name} for name in PROTOCOLS}
    assert set(GROUPS) <= names_in(TEXT)
    free = {name for name, protocol in PROTOCOLS.items() if not protocol.needs_labels}
    assert free == {"ranking", "neutral", "noise"}  # as the page says


def test_proxies():
    for proxy in PROXIES:
        shape = re.sub("(Left|Right)$", "", proxy.shapes[0])
        assert f"{proxy.name} {shape}" in TEXT.replace("\n", " ")


def test_keys(tmp_path):
    people = [recorded(name, name, 60, blendshapes=blendshapes_of(60, ord(name))) for name in "ab"]
    clips = tuple(clips_of([write_store(tmp_path / "store", people)]))
    models = tuple(Model(name, "baseline", lambda clip, _: np.eye(60)[: len(clip)]) for name in ("one", "two"))
    tree = as_json(evaluate(Plan(models, clips, read_labels("blendshapes", clips), ("retrieval",), ("a", "b"))))
    rows = table_of("## results.json")
    assert names_in(" ".join(row[0] for row in rows)) == {*tree, "models[].measures"}
    documented = {name: names_in(" ".join(row)) for row in rows for name in names_in(row[0])}
    assert set(tree["recordings"][0]) <= documented["recordings"]
    assert set(tree["labels"]) <= documented["labels"]
    assert set(tree["models"][0]) <= documented["models"]
    assert set(tree["models"][0]["measures"]["retrieval.top5"]) <= documented["models[].measures"]
    assert set(tree["comparisons"][0]) <= documented["comparisons"]


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    people = [recorded(name, name, 300, blendshapes=blendshapes_of(300, ord(name))) for name in "ab"]
    write_store(tmp_path / "store", people)
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(example[1], "docs/evaluation.md", "exec"), {})
    within, *across = map(float, re.findall(r"[\d.]+", capsys.readouterr().out))
    assert min(within, *across) > 0.7


@pytest.mark.parametrize("command", re.findall(r"^psm-adapt evaluate (.*?)(?: +#.*)?$", TEXT, re.MULTILINE))
def test_commands_are_understood(command):
    given = _parser().parse(command.split())
    assert given.inputs
    assert set(given.protocol.split(",")) <= {*PROTOCOLS, *GROUPS}
