"""docs/vocabulary.md against the program."""

import re
from pathlib import Path

import numpy as np
import pytest
from tests.stream.clusters.vocabularies import of_units

from psm_adapt.cli.vocabulary import job
from psm_stream.clusters.vocabulary import write_vocabulary

PAGE = (Path(__file__).parents[3] / "docs" / "vocabulary.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[str]:
    """What stands in the first column of a section's tables."""
    return re.findall(r"^\| `(-*[\w-]+)[^`]*` \|", text, re.MULTILINE)


@pytest.mark.parametrize("verb", ["fit", "train", "neighbours"])
def test_the_options(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        job([verb, "--help"])
    options = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--debug", "--version"}
    assert options == set(rows(section(verb)))


def test_the_arrays(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "v.npz", of_units())
    with np.load(tmp_path / "v.npz") as file:
        assert sorted(file.files) == sorted(rows(section("The file")))
