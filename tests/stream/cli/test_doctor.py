"""psm-doctor as a real process."""

import json
import socket
from pathlib import Path

import pytest
from tests.stream.cli.running import tool

from psm_stream import doctor, doctor_gpu
from psm_stream.config import WireSettings
from psm_stream.doctor import Verdict
from psm_stream.engines import EngineSpec, key_of, new_draft, seal
from psm_stream.errors import DeviceError
from psm_stream.gpu import Gpu


def test_says_that_the_main_job_runs_here() -> None:
    done = tool("doctor", "--json", "--control-port", "auto")
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert findings["face alignment"]["verdict"] == "ok"
    assert "cameras" in findings
    assert all("\n" not in finding["text"] for finding in findings.values())
    assert done.stderr == ""


def test_a_home_that_is_a_file_is_not_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "home"))
    finding = doctor._guarded("user folder", doctor._folders, Verdict.NOTE)
    assert (finding.verdict, finding.text.partition(";")[0]) == (
        *(Verdict.NOTE, f"cannot write into {tmp_path / 'home'}: Not a directory"),
    )
    monkeypatch.setenv("PSM_HOME", str(tmp_path / "none" / "yet"))
    assert doctor._folders().verdict is Verdict.OK
    assert [one.name for one in tmp_path.iterdir()] == ["home"]


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


def test_opencv_without_its_system_library_is_bad_and_the_report_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = tool("doctor", "--json", "--control-port", "auto")
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert findings["opencv"]["verdict"] == "bad"
    assert findings["opencv"]["text"].endswith("; apt-get install libgl1 libglib2.0-0")
    assert (findings["ports"]["verdict"], findings["cameras"]["verdict"]) == ("ok", "note")
    assert done.stderr == ""


def test_a_machine_without_a_gpu_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> str:
        raise DeviceError("TensorRT's libnvinfer.so.10 cannot be loaded (no such file)")

    monkeypatch.setenv("PSM_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor_gpu, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(doctor_gpu, "load_tensorrt", absent)
    gpu, tensorrt, cache = doctor._gpu()
    assert (gpu.verdict, gpu.text.partition(" (")[0]) == (Verdict.NOTE, "no NVIDIA driver on this machine")
    assert tensorrt.verdict is Verdict.NOTE
    assert tensorrt.text.startswith("TensorRT's libnvinfer.so.10 cannot be loaded")
    assert tensorrt.text.endswith("pip install 'tensorrt-cu13>=10.13,<11'")
    assert (cache.verdict, cache.text) == (
        Verdict.OK,
        f"no TensorRT engines in {tmp_path / 'engines'} (PSM_CACHE overrides)",
    )


def test_a_machine_with_a_gpu_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Gpu("A GPU", "9.0", "0" * 32, "580.1")
    monkeypatch.setenv("PSM_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor_gpu, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(doctor_gpu, "read_gpu", lambda: here)
    monkeypatch.setattr(doctor_gpu, "load_tensorrt", lambda: "10.13.3")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    for n in range(2):
        key = key_of(bytes([n]), EngineSpec("fp32", 8), here, "10.13.3")
        draft = new_draft(key)
        (draft / "engine.plan").write_bytes(bytes(1_500_000))
        seal(draft, key)
    gpu, tensorrt, cache = doctor._gpu()
    assert gpu.verdict is tensorrt.verdict is Verdict.OK
    assert gpu.text.startswith("A GPU, compute capability 9.0, driver 580.1")
    assert tensorrt.text.startswith("10.13.3")
    assert cache.text.startswith("2 TensorRT engines, 3.0 MB, in ")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "onnxruntime has no CUDA" in doctor._gpu()[0].text


def test_whatever_a_check_raises_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor_gpu, "has_nvidia_driver", broken)
    for name in ("_opencv", "_folders", "_general_encoder", "_providers", "_main_job", "_landmarker", "_cameras"):
        monkeypatch.setattr(doctor, name, broken)
    findings = {finding.subject: finding for finding in doctor.examine(WireSettings(control_port="auto"))}
    notes = {name for name, finding in findings.items() if finding.verdict is Verdict.NOTE}
    assert notes == {"user folder", "onnxruntime", "gpu", "face landmarker", "cameras"}
    assert findings["cameras"].text == "PermissionError: [Errno 13] Permission denied"
