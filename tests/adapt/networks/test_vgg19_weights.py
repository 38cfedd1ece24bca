"""VGG19's weights are found in files of torchvision's and ours, and nothing else is taken for them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from psm_adapt.networks.vgg19_weights import TORCHVISION, Vgg19Weights, digest, find_vgg19
from psm_stream.errors import ConfigError


@pytest.fixture(scope="module")
def torchvisions(vgg19: Vgg19Weights) -> dict[str, Tensor]:
    """The state dict as torchvision stores it, with layers that are not used."""
    names = {ours: theirs for theirs, ours in TORCHVISION.items()}
    stored = {}
    for key, tensor in vgg19.tensors.items():
        layer, kind = key.rsplit(".", 1)
        stored[f"{names[layer]}.{kind}"] = tensor
    return {**stored, "features.34.bias": torch.zeros(512), "classifier.6.bias": torch.zeros(1000)}


def test_torchvisions_file_and_safetensors_give_the_same(
    tmp_path: Path, vgg19: Vgg19Weights, torchvisions: dict[str, Tensor]
) -> None:
    torch.save(torchvisions, tmp_path / "vgg19-dcbb9e9d.pth")
    save_file(dict(vgg19.tensors), tmp_path / "vgg19.safetensors")
    for name in ("vgg19-dcbb9e9d.pth", "vgg19.safetensors"):
        found = find_vgg19(tmp_path / name)
        assert found.digest == vgg19.digest
        assert found.path == tmp_path / name
        assert list(found.tensors) == list(vgg19.tensors)
        assert torch.equal(found.tensors["conv3_4.0.weight"], vgg19.tensors["conv3_4.0.weight"])


def test_the_cache_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchvisions: dict[str, Tensor], vgg19: Vgg19Weights
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"no vgg19-\*\.pth in .*checkpoints; .* set stem: learned and perceptual: random"
    ):
        find_vgg19()
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(torchvisions, folder / "vgg19-dcbb9e9d.pth")
    assert find_vgg19().digest == vgg19.digest


def test_what_is_not_vgg19_is_refused(tmp_path: Path, torchvisions: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(ConfigError, match=r"no VGG19 weights at .*weights\.pth; .* set stem: learned"):
        find_vgg19(path)
    torch.save({**torchvisions, "features.5.weight": torch.zeros(128, 32, 3, 3)}, path)
    with pytest.raises(ConfigError, match=r"conv2_1\.0\.weight should have shape \(128, 64, 3, 3\)"):
        find_vgg19(path)
    torch.save([1, 2], path)
    with pytest.raises(ConfigError, match="no state dict"):
        find_vgg19(path)
    path.write_bytes(b"not a file of weights")
    with pytest.raises(ConfigError, match="cannot read VGG19 weights"):
        find_vgg19(path)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_code_in_a_file_is_not_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ConfigError, match="cannot read VGG19 weights"):
        find_vgg19(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


def test_a_digest_depends_on_names_and_numbers_alone() -> None:
    one = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    assert digest(one) == digest({"b": one["b"], "a": one["a"].double()})
    assert digest(one) != digest({"a": one["a"], "b": torch.tensor([3.5])})
    assert digest(one) != digest({"a": one["a"], "c": one["b"]})
