"""TensorRT engines: built for one GPU and its software, kept in a cache on this machine, and never in a bundle.

    <cache>/engines/<digest of the key>/     owner only
        engine.json       the key's parts, and the sha256 of every file; written last
        engine.plan, engine.onnx    built by psm-export: the engine, and the wrapper by which ONNX Runtime loads it
        *.engine, *.profile, ...    or what ONNX Runtime built itself

An engine holds native code, so it may not come from elsewhere: a bundle that a stranger sent must not be able to bring
one. What is here was built here, by this user. <cache> is `PSM_CACHE`, or the user's cache folder. An engine is found
by everything that it depends on; after an upgrade of anything it is simply not found, and built again. A folder comes
into its place whole, by a rename, so that a build that was cut off leaves nothing that looks like one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
import psutil

from psm_stream.errors import DeviceError
from psm_stream.gpu import Gpu, load_tensorrt, read_gpu

SCHEMA = 1
ABOUT = "engine.json"
WRAPPER = "engine.onnx"
"""A model of one EPContext node that names the engine beside it."""
PLAN = "engine.plan"
MAX_BATCH = 16
"""Engines take 1 to so many crops at once; the live path brings one."""
KEPT = 8
_DRAFT = ".draft-"
_LIMIT_BYTES = 1 << 20
_TRIES = 50
"""Others who put the same engine into its place may come first so often."""

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What an engine is built for, beside the model. size_px: side of the encoder's input."""

    precision: Precision
    size_px: int

    def options(self) -> dict[str, str]:
        """Return the options of ONNX Runtime's TensorRT provider that shape an engine."""
        shape = f"{self.size_px}x{self.size_px}x3"
        return {
            # a half-precision graph says so itself, but TensorRT takes its half kernels only if they are allowed
            "trt_fp16_enable": str(int(self.precision == "fp16")),
            # QuantizeLinear and DequantizeLinear in the graph become int8 kernels; no calibration is done
            "trt_int8_enable": str(int(self.precision == "int8")),
            # without shapes given here an engine is built again whenever another number of crops comes
            "trt_profile_min_shapes": f"crops:1x{shape}",
            "trt_profile_opt_shapes": f"crops:1x{shape}",
            "trt_profile_max_shapes": f"crops:{MAX_BATCH}x{shape}",
        }


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on. model_sha256: of encoder.onnx. options: as JSON."""

    gpu: str
    compute_capability: str
    gpu_uuid: str
    driver: str
    tensorrt: str
    onnxruntime: str
    cuda: str
    model_sha256: str
    precision: str
    options: str

    def as_dict(self) -> dict[str, str]:
        """Return the parts by name."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """Sha256 over the parts, hex: the name of the engine's folder."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def key_here(model: bytes, spec: EngineSpec) -> EngineKey:
    """Return the key of a model's engine on this machine. model: encoder.onnx's content.

    Raises DeviceError: no GPU, or no TensorRT.
    """
    return key_of(model, spec, read_gpu(), load_tensorrt())


def key_of(model: bytes, spec: EngineSpec, gpu: Gpu, tensorrt: str) -> EngineKey:
    """Return the key of a model's engine on a GPU, by that version of TensorRT."""
    import onnxruntime
    from onnxruntime.capi import build_and_package_info

    return EngineKey(
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        gpu_uuid=gpu.uuid,
        driver=gpu.driver,
        tensorrt=tensorrt,
        onnxruntime=onnxruntime.__version__,
        cuda=str(getattr(build_and_package_info, "cuda_version", "")),
        model_sha256=hashlib.sha256(model).hexdigest(),
        precision=spec.precision,
        options=json.dumps(spec.options(), sort_keys=True),
    )


def cache_home() -> Path:
    """Return the folder for what can be made again."""
    chosen = os.environ.get("PSM_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("psm-stream", appauthor=False))


def engine_folder(key: EngineKey) -> Path:
    """Return where the engine of a key is, if it is there; `is_whole` says whether."""
    return _engines() / key.digest


def is_whole(folder: Path, key: EngineKey) -> bool:
    """Whether a folder holds the engine of this key, built here and unchanged: every file has its digest.

    A folder that somebody else owns or may write into is not taken, whatever it holds.
    """
    if not _is_ours(folder):
        return False
    about = _read_about(folder)
    files = about.get("files")
    if about.get("schema") != SCHEMA or about.get("key") != key.as_dict() or not isinstance(files, dict) or not files:
        return False
    try:
        return files == _digests(folder)
    except OSError:  # another process is just putting a newer one into its place
        return False


def new_draft(key: EngineKey) -> Path:
    """Make and return an empty folder in which an engine is built, for `seal`; its owner's alone.

    Raises DeviceError: the cache cannot be written.
    """
    draft = _engines() / f"{_DRAFT}{os.getpid()}-{key.digest[:8]}-{uuid.uuid4().hex[:8]}"
    try:
        for folder in (cache_home(), _engines(), draft):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unwritable(error) from None
    return draft


def seal(draft: Path, key: EngineKey) -> Path:
    """Put a built engine into its place, whole, and return that folder; what was there is replaced.

    Raises DeviceError: nothing was built, or the cache cannot be written.
    """
    place = engine_folder(key)
    try:
        files = _digests(draft)
        if not files:
            raise DeviceError(f"no engine was built in {draft}")
        for name in files:
            (draft / name).chmod(0o600)  # TensorRT leaves it to the umask, which may let a group write
        about = {"schema": SCHEMA, "key": key.as_dict(), "files": files}
        with open(draft / ABOUT, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(about, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        _put(draft, place)
    except OSError as error:
        raise _unwritable(error) from None
    return place


def used(folder: Path) -> None:
    """Take note that an engine was used: `prune` keeps those that were used last."""
    os.utime(folder / ABOUT)


def cached() -> list[tuple[Path, int]]:
    """Return the engines that are there, with their bytes, those used last first."""
    try:
        folders = [one for one in _engines().iterdir() if not one.name.startswith(".") and (one / ABOUT).is_file()]
    except OSError:
        return []
    folders.sort(key=lambda one: (one / ABOUT).stat().st_mtime, reverse=True)
    return [(one, sum(file.stat().st_size for file in one.iterdir() if file.is_file())) for one in folders]


def prune(keep: int = KEPT) -> list[Path]:
    """Remove all but the engines used last, and what builds left that were cut off. Returns the engines removed."""
    gone = [folder for folder, _ in cached()[keep:]]
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    for draft in _engines().glob(f"{_DRAFT}*-*"):
        process = draft.name.removeprefix(_DRAFT).partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(draft, ignore_errors=True)
    return gone


def _put(draft: Path, place: Path) -> None:
    """Rename a folder to its place, where others may be doing the same; what is there goes. Raises OSError."""
    for left in reversed(range(_TRIES)):
        try:
            draft.rename(place)
            return
        except OSError:
            if not left or not draft.exists():
                raise
        doomed = place.with_name(f"{_DRAFT}{os.getpid()}-old-{uuid.uuid4().hex[:8]}")
        with suppress(OSError):  # somebody else moved it away
            place.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _engines() -> Path:
    return cache_home() / "engines"


def _is_ours(folder: Path) -> bool:
    """Whether a folder and its files are this user's, and nobody else may write them. Windows: whether it is there."""
    try:
        if folder.is_symlink() or not folder.is_dir():
            return False
        if os.name == "nt":
            return True
        states = [folder.stat(), *(entry.lstat() for entry in folder.iterdir())]
        return all(one.st_uid == os.getuid() and not one.st_mode & (stat.S_IWGRP | stat.S_IWOTH) for one in states)
    except OSError:
        return False


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            return {}
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _digests(folder: Path) -> dict[str, str]:
    """Sha256 of every file in a folder but engine.json. Raises OSError."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != ABOUT:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            found[path.name] = digest.hexdigest()
    return found


def _unwritable(error: OSError) -> DeviceError:
    where = error.filename or _engines()
    return DeviceError(
        f"cannot keep a TensorRT engine in {where}: {error.strerror or error}; PSM_CACHE names another folder"
    )
