"""psm-doctor as a real process."""

import json
import socket

from tests.stream.cli.running import tool


def test_says_that_the_main_job_runs_here() -> None:
    done = tool("doctor", "--json", "--control-port", "auto")
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert findings["face alignment"]["verdict"] == "ok"
    assert "cameras" in findings
    assert all("\n" not in finding["text"] for finding in findings.values())
    assert done.stderr == ""


def test_a_taken_port_is_bad_and_named() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = tool("doctor", "--control-port", str(port))
    assert done.returncode == 1
    assert f"port {port}" in done.stdout


def test_unknown_option_names_the_nearest() -> None:
    done = tool("doctor", "--jason")
    assert (done.returncode, done.stderr) == (2, "error: unknown option '--jason'; did you mean --json?\n")
