"""Files of torch.save are read, and whatever else comes under their name is named; nothing in a file executes."""

import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save as safetensors

from psm_export.sources import torch_file
from psm_export.sources.torch_file import read_torch_file
from psm_stream.errors import CheckpointError

FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "stream"])


def written(path: Path, value: object, is_zip: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_torch_file(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "weights_only" not in message  # PyTorch's advice is to read without it
    return message


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str, int]]:
        return os.open, (str(self.target), os.O_CREAT | os.O_WRONLY)


@FORMATS
def test_what_is_saved_is_read(tmp_path: Path, is_zip: bool) -> None:
    state = OrderedDict(a=torch.arange(6.0).reshape(2, 3).t(), b=torch.nn.Parameter(torch.ones(2)))
    read = read_torch_file(written(tmp_path / "a.tar", {"state": state, "epoch": 3, "losses": [0.5]}, is_zip))
    assert isinstance(read, dict)
    assert (read["epoch"], read["losses"]) == (3, [0.5])
    assert torch.equal(read["state"]["a"], state["a"])
    assert torch.equal(read["state"]["b"], torch.ones(2))


@FORMATS
def test_code_is_refused_and_does_not_run(tmp_path: Path, is_zip: bool) -> None:
    target = tmp_path / "made-by-the-file"
    path = written(tmp_path / "a.tar", {"codegeneration": {}, "extra": Bomb(target)}, is_zip)
    assert "holds more than weights: it names 'posix.open'" in refusal(path).replace("nt.open", "posix.open")
    assert not target.exists()
    torch.load(path, weights_only=False)  # it does work
    assert target.exists()


def test_code_in_a_changed_zip_does_not_run(tmp_path: Path) -> None:
    """Also where the pickle is of a newer protocol than the ones that PyTorch writes."""
    target = tmp_path / "made-by-the-file"
    with zipfile.ZipFile(tmp_path / "a.tar", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(Bomb(target), protocol=4))
        archive.writestr("a/version", "3\n")
    assert "nothing was executed" in refusal(tmp_path / "a.tar")
    assert not target.exists()


def test_a_pickle_alone_is_not_read(tmp_path: Path) -> None:
    target = tmp_path / "made-by-the-file"
    for protocol in (2, 4):
        (tmp_path / "a.tar").write_bytes(pickle.dumps(Bomb(target), protocol=protocol))
        assert "a Python pickle, which could execute code" in refusal(tmp_path / "a.tar")
    assert not target.exists()


@FORMATS
def test_python_objects_are_refused_by_name(tmp_path: Path, is_zip: bool) -> None:
    path = written(tmp_path / "a.tar", torch.nn.Linear(1, 1), is_zip)
    assert "it names 'torch.nn.modules.linear.Linear'" in refusal(path)


@FORMATS
@pytest.mark.parametrize("kept", [0.98, 0.5, 0.1])
def test_what_is_cut_off_is_refused(tmp_path: Path, is_zip: bool, kept: float) -> None:
    path = written(tmp_path / "a.tar", {"a": torch.ones(1000)}, is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    assert "cut off or damaged" in refusal(path)


def test_one_changed_bit_of_a_zip_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", {"a": torch.zeros(1000)})
    content = bytearray(path.read_bytes())
    content[content.index(bytes(2000)) + 1000] ^= 1
    path.write_bytes(content)
    assert "the checksum of 'a/data/0' is wrong" in refusal(path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "is empty"),
        (b"\n <!DOCTYPE html><html><title>Google Drive - Virus scan warning", "a web page, not a checkpoint"),
        (b"\xef\xbb\xbf<html>", "a web page"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "a JPEG picture"),
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"\x1f\x8b\x08\x00", "a gzip archive; unpack it"),
        (b"Error 509: too much traffic\n", "text, not a checkpoint"),
        (bytes(range(256)), "not a file that torch.save wrote"),
        (safetensors({"a": np.zeros(2, np.float32)}), "a safetensors file"),
    ],
)
def test_other_kinds_are_named(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    assert kind in refusal(tmp_path / "a.tar")


def test_a_real_tar_archive_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    assert "a tar archive, which PyTorch wrote until 2017" in refusal(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ({"word/document.xml": "x"}, "a zip archive of other files, first 'word/document.xml'"),
        ({"a/data.pkl": "x", "a/constants.pkl": "x"}, "a TorchScript program"),
    ],
)
def test_other_zips_are_named(tmp_path: Path, records: dict[str, str], reason: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.tar", "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    assert reason in refusal(tmp_path / "a.tar")


def test_places_without_a_file(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "a.tar")
    assert "is a folder" in refusal(tmp_path)


def test_files_that_are_too_large_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.tar", {"a": torch.ones(1000)})
    monkeypatch.setattr(torch_file, "LARGEST", 4000)
    assert "such a checkpoint has at most" in refusal(path)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """The same zip, each record changed."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))
    return path


def test_a_compressed_zip_is_not_blown_up(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", {"a": torch.zeros(100_000)})
    rewritten(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 4000
    assert "is compressed, which PyTorch never does" in refusal(path)


def test_records_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", {"a": torch.zeros(1000)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist += [archive.getinfo("a/data/0")] * 3  # the directory is written again when it closes
        archive._didModify = True
    assert "claim more bytes than the file has" in refusal(path)


def test_a_large_pickle_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "_LARGEST_PICKLE", 1000)
    path = written(tmp_path / "a.tar", {"a": list(range(1000))})
    assert "which no checkpoint needs" in refusal(path)


def test_a_record_that_claims_more_numbers_than_it_has_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", {"a": torch.arange(200.0)})

    def claim(name: str, content: bytes) -> bytes:
        longer = content.replace(b"K\xc8", b"M\x40\x9c")  # 200 as BININT1, 40,000 as BININT2
        assert name != "a/data.pkl" or longer.count(b"M\x40\x9c") == 2
        return longer if name == "a/data.pkl" else content

    assert "cut off or damaged" in refusal(rewritten(path, claim))


def test_a_stream_that_claims_more_numbers_than_it_has_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", {"a": torch.arange(200.0)}, is_zip=False)
    content = path.read_bytes()
    assert content.count(b"K\xc8") == 2
    path.write_bytes(content.replace(b"K\xc8", b"\x8a\x06\x00\x00\x00\x00\x00\x01"))  # LONG1, 2 ** 40
    assert "cut off or damaged" in refusal(path)
