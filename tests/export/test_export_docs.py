"""docs/export.md: its table of limits is the gate's, and its commands are there."""

import dataclasses
import re
from pathlib import Path

import pytest

from psm_export.cli.entry import COMMANDS, subcommand
from psm_export.parity.gate import LIMITS
from psm_stream.gpu import TENSORRT_PACKAGE

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("precision", LIMITS)
def test_the_limits_are_those_of_the_gate(precision: str) -> None:
    (row,) = re.findall(rf"^\| {precision} \|(.*)\|$", DOCUMENT, re.MULTILINE)
    assert [float(cell) for cell in row.split("|")] == list(dataclasses.astuple(LIMITS[precision]))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_described_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"psm-export {name} BUNDLE" in DOCUMENT
    with pytest.raises(SystemExit) as ended:
        subcommand(name)(["--help"])
    assert ended.value.code == 0
    assert f"psm-export {name}" in capsys.readouterr().out


def test_what_to_install_for_tensorrt_is_what_the_error_says() -> None:
    assert f"pip install '{TENSORRT_PACKAGE}'" in DOCUMENT
