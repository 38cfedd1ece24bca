"""psm-adapt itself, and psm-adapt general's arguments, as a person types them."""

import subprocess
import sys

import pytest


def psm_adapt(*arguments: str, code: str = "pass") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; code: what happens in it first."""
    start = f"import sys; {code}; from psm_adapt.cli.entry import main; sys.argv[1:] = {list(arguments)}; main()"
    return subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=120, check=False)


def test_without_a_command_it_lists_them() -> None:
    listed = psm_adapt()
    assert listed.returncode == 2
    for command in ("crops", "train", "general", "evaluate", "import", "export-authors"):
        assert f"\n  {command} " in listed.stdout
    assert psm_adapt("--help").returncode == 0


def test_an_unknown_command_names_the_nearest() -> None:
    refused = psm_adapt("trian")
    assert refused.returncode == 2
    assert refused.stderr == "error: unknown subcommand 'trian'; did you mean train?\n"


def test_without_torch_it_says_what_to_install() -> None:
    refused = psm_adapt("import", "file.tar", "--out", "somewhere", code="sys.modules['torch'] = None")
    assert refused.returncode == 2
    assert "psm-adapt import needs torch; install it with: pip install 'psm-stream[adapt]'" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["videos"], "--out"),
        (["videos", "--out", "x", "--clips", "none"], "--clips 'none': expected a whole number from 1"),
        (["videos", "--out", "x", "--configs", "nowhere"], "nowhere"),
        (["videos", "--out", "x", "--cilps", "3"], "did you mean --clips?"),
    ],
)
def test_wrong_arguments_of_general_are_one_line(arguments: list[str], says: str) -> None:
    refused = psm_adapt("general", *arguments)
    assert refused.returncode == 2
    assert says in refused.stderr
    assert refused.stderr.count("\n") == 1
