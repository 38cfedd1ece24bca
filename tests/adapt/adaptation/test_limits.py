"""What a worker does to itself, each in a process of its own: priority, threads, memory, leaving."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from psm_adapt.adaptation.limits import is_out_of_memory

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX has it")


def said_by(script: str, **environment: str) -> str:
    """Run a script of Python to its end; return what it printed."""
    command = [sys.executable, "-c", f"from psm_adapt.adaptation import limits; {script}"]
    ran = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True, env=os.environ | environment
    )
    return ran.stdout.decode().strip()


@LINUX
def test_it_steps_back_behind_every_other_process() -> None:
    script = "import os; limits.step_back(); print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_IDLE)"
    assert said_by(script) == "19 True"


@LINUX
def test_it_is_the_first_to_go_when_memory_is_short() -> None:
    assert said_by("limits.step_back(); print(open('/proc/self/oom_score_adj').read())") == "1000"


def test_torch_has_one_thread() -> None:
    script = "limits.step_back(); import torch; print(torch.get_num_threads())"
    assert said_by(script, OMP_NUM_THREADS="2") == "1"


def test_it_does_not_import_torch() -> None:
    assert said_by("limits.step_back(); import sys; print('torch' in sys.modules)") == "False"


@LINUX
@pytest.mark.parametrize(
    ("what", "takes"),
    [("torch", "torch.zeros(700 * 2**20, dtype=torch.uint8)"), ("Python", "bytearray(700 * 2**20)")],
)
def test_more_memory_than_it_may_take_is_an_error_that_is_known(what: str, takes: str) -> None:
    script = (
        "import torch; print(limits.limit_memory(1024, 'cpu'))\n"
        f"kept = {takes}\n"
        "try:\n"
        f"    more = {takes}\n"
        "except Exception as error:\n"
        "    print(limits.is_out_of_memory(error))\n"
        "else:\n"
        f"    print('{what} took it')\n"
    )
    assert said_by(script).split() == ["True", "True"]


def test_errors_that_say_out_of_memory() -> None:
    """In the words of torch 2.6 to 2.13, on the CPU and on CUDA, of C++ and of Python."""
    said = (
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 734003200 bytes. Error code 12 (Cannot allocate memory)",
        "CUDA out of memory. Tried to allocate 20.00 MiB.",
        "CUDA error: out of memory",
        "std::bad_alloc",
        "can't start new thread",
        "libcudnn.so.9: failed to map segment from shared object",
    )
    assert all(is_out_of_memory(RuntimeError(text)) for text in said)
    assert is_out_of_memory(MemoryError())
    wrapped = ValueError("a step failed")
    wrapped.__cause__ = MemoryError()
    assert is_out_of_memory(wrapped)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


FOLLOW = (
    "import os, time; print(limits.follow_parent(lambda: os._exit(7)), os.getpgid(0) == os.getpid(), flush=True); "
    "time.sleep(float(os.environ['WAIT_S']))"
)


@POSIX
def test_it_leaves_when_its_parent_closes_the_pipe() -> None:
    command = [sys.executable, "-c", f"from psm_adapt.adaptation import limits; {FOLLOW}"]
    environment = os.environ | {"WAIT_S": "600"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"True True\n"
        child.stdin.write(b"whatever")
        child.stdin.flush()
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(60) == 7


@POSIX
def test_it_leaves_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = (
        "import subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE); "
        "print(child.pid, flush=True); child.wait()"
    )
    child = [sys.executable, "-c", f"from psm_adapt.adaptation import limits; {FOLLOW}"]
    command = [sys.executable, "-c", parent, *child]
    environment = os.environ | {"WAIT_S": "600"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=tmp_path) as started:
        assert started.stdout is not None
        pid = int(started.stdout.readline())
        assert started.stdout.readline() == b"True True\n"
        process = psutil.Process(pid)
        started.send_signal(signal.SIGKILL)
        assert psutil.wait_procs([process], timeout=60)[1] == []


def test_started_by_a_person_it_stays() -> None:
    """stdin is no pipe then: a terminal, nothing, or a file."""
    assert said_by(FOLLOW, WAIT_S="0").split()[0] == "False"
