"""The cache of TensorRT engines: found by everything that they depend on, taken only whole, unchanged and one's own."""

import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from psm_stream import engines
from psm_stream.engines import ABOUT, EngineKey, EngineSpec, engine_folder, is_whole, key_of, new_draft, seal
from psm_stream.errors import DeviceError
from psm_stream.gpu import Gpu

GPU = Gpu("a GPU", "9.0", "0" * 32, "580.1")
SPEC = EngineSpec("int8", 64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def key() -> EngineKey:
    return key_of(b"a model", SPEC, GPU, "10.13.3")


def built(key: EngineKey, content: bytes = b"native code") -> Path:
    draft = new_draft(key)
    (draft / "engine.plan").write_bytes(content)
    return seal(draft, key)


def test_an_engine_comes_whole_into_its_place(key: EngineKey, cache: Path) -> None:
    draft = new_draft(key)
    assert not is_whole(engine_folder(key), key)
    (draft / "engine.plan").write_bytes(b"native code")
    folder = seal(draft, key)
    assert folder == engine_folder(key) == cache / "engines" / key.digest
    assert is_whole(folder, key)
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    assert about["key"] == key.as_dict()
    assert about["files"] == {"engine.plan": hashlib.sha256(b"native code").hexdigest()}
    assert not draft.exists()


@pytest.mark.parametrize("part", [field.name for field in fields(EngineKey)])
def test_anything_else_is_another_engine(key: EngineKey, part: str) -> None:
    folder = built(key)
    other = replace(key, **{part: "other"})
    assert engine_folder(other) != folder
    assert not engine_folder(other).exists()
    assert not is_whole(folder, other)


def test_the_key_knows_the_model_the_precision_and_the_options(key: EngineKey) -> None:
    assert key.model_sha256 == hashlib.sha256(b"a model").hexdigest()
    assert key_of(b"another", SPEC, GPU, "10.13.3").digest != key.digest
    assert key_of(b"a model", replace(SPEC, precision="fp32"), GPU, "10.13.3").digest != key.digest
    assert key_of(b"a model", replace(SPEC, size_px=65), GPU, "10.13.3").digest != key.digest
    assert key_of(b"a model", SPEC, GPU, "10.13.3") == key


def test_options_fit_the_precision() -> None:
    assert EngineSpec("int8", 64).options() == {
        "trt_fp16_enable": "0",
        "trt_int8_enable": "1",
        "trt_profile_min_shapes": "crops:1x64x64x3",
        "trt_profile_opt_shapes": "crops:1x64x64x3",
        "trt_profile_max_shapes": "crops:16x64x64x3",
    }
    allowed = {kind: EngineSpec(kind, 8).options() for kind in ("fp32", "fp16")}
    assert [(one["trt_fp16_enable"], one["trt_int8_enable"]) for one in allowed.values()] == [("0", "0"), ("1", "0")]


def test_a_build_that_was_cut_off_is_none(key: EngineKey) -> None:
    folder = built(key)
    (folder / ABOUT).unlink()
    assert not is_whole(folder, key)
    assert engines.cached() == []


@pytest.mark.parametrize("about", [b"", b"[]", b"{}", b'{"schema": 1}', b"[" * 100_000, b" " * (1 << 21)])
def test_what_is_said_of_an_engine_may_be_anything(key: EngineKey, about: bytes) -> None:
    folder = built(key)
    (folder / ABOUT).write_bytes(about)
    assert not is_whole(folder, key)


def test_a_changed_added_or_missing_file_is_found(key: EngineKey) -> None:
    folder = built(key)
    (folder / "engine.plan").write_bytes(b"native cod3")
    assert not is_whole(folder, key)
    (folder / "engine.plan").write_bytes(b"native code")
    assert is_whole(folder, key)
    (folder / "other.engine").write_bytes(b"more")
    assert not is_whole(folder, key)
    (folder / "other.engine").unlink()
    (folder / "engine.plan").unlink()
    assert not is_whole(folder, key)


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
def test_only_the_owner_may_look_and_write(key: EngineKey, cache: Path) -> None:
    before = os.umask(0)
    try:
        folder = built(key)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(one.stat().st_mode) for one in (cache, cache / "engines", folder)} == {0o700}
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
    (folder / "engine.plan").chmod(0o620)
    assert not is_whole(folder, key)
    (folder / "engine.plan").chmod(0o600)
    folder.chmod(0o707)
    assert not is_whole(folder, key)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_to_a_whole_one_is_none(key: EngineKey, tmp_path: Path) -> None:
    folder = built(key)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert not is_whole(folder, key)


def test_a_new_engine_takes_the_place_of_the_old(key: EngineKey, cache: Path) -> None:
    built(key)
    folder = built(key, b"newer")
    assert is_whole(folder, key)
    assert (folder / "engine.plan").read_bytes() == b"newer"
    assert [one.name for one in (cache / "engines").iterdir()] == [key.digest]


def test_several_that_build_the_same_at_once_leave_a_whole_one(key: EngineKey, cache: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        folders = list(threads.map(lambda n: built(key, bytes([n]) * 1000), range(40)))
    assert set(folders) == {engine_folder(key)}
    assert is_whole(engine_folder(key), key)
    assert [one.name for one in (cache / "engines").iterdir()] == [key.digest]


def test_nothing_built_is_an_error(key: EngineKey) -> None:
    with pytest.raises(DeviceError, match="no engine was built"):
        seal(new_draft(key), key)


def test_a_cache_that_cannot_be_written_is_one_line(
    key: EngineKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("PSM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DeviceError, match="PSM_CACHE names another folder") as caught:
        new_draft(key)
    assert "\n" not in str(caught.value)
    assert engines.cached() == []
    assert engines.prune() == []


def test_those_used_last_are_kept(key: EngineKey) -> None:
    keys = [replace(key, driver=str(n)) for n in range(4)]
    for n, one in enumerate(keys):
        folder = built(one)
        os.utime(folder / ABOUT, (n, n))
    engines.used(engine_folder(keys[0]))
    gone = engines.prune(keep=2)
    assert [folder.name for folder in gone] == [keys[2].digest, keys[1].digest]
    assert [folder.name for folder, _ in engines.cached()] == [keys[0].digest, keys[3].digest]
    sizes = {sum(len(file.read_bytes()) for file in folder.iterdir()) for folder, _ in engines.cached()}
    assert {size for _, size in engines.cached()} == sizes


def test_what_cut_off_builds_left_goes_and_what_runs_stays(key: EngineKey) -> None:
    mine = new_draft(key)
    dead = mine.with_name(".draft-999999999-0-0")
    mine.joinpath("half").write_bytes(b"")
    dead.mkdir()
    engines.prune()
    assert mine.exists()
    assert not dead.exists()
