"""Pictures become tokens through torchvision's networks, whose weights come from files or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fusion.encoders.backbone import BackboneEncoder
from fusion.encoders.position import RayPosition
from fusion.errors import ConfigError, InputError, ModelError


def _encoder(name: str, weights: Path | None = None) -> BackboneEncoder:
    torch.manual_seed(3)
    return BackboneEncoder(name, 16, RayPosition(4, 16), weights=weights).eval()


def _inputs(seed: int = 1, height: int = 64, width: int = 96) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=generator),
        "rays": torch.rand(1, height * width // 256, 12, generator=generator) * 20,
    }


def _network(name: str = "resnet18") -> dict[str, Tensor]:
    from torchvision import models

    torch.manual_seed(7)
    return getattr(models, name)(weights=None).state_dict()


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "swin_t"])
def test_a_token_a_cell_of_stride_16_made_of_the_pictures_colours(name: str) -> None:
    encoder, inputs = _encoder(name), _inputs(height=128, width=64)
    tokens, position = encoder(**inputs)
    assert tokens.shape == position.shape == (1, 32, 16)
    assert bool(tokens.isfinite().all())
    turned, _ = encoder(inputs["images"].flip(1), inputs["rays"])
    assert not torch.allclose(tokens, turned, atol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "swin_t"])
def test_the_graph_equals_torch(exported, name: str) -> None:
    encoder = _encoder(name)
    if name == "swin_t":  # one block of each kind is exported in a fraction of the time
        for stage, blocks in ((encoder.to_16, {1: 1, 3: 1, 5: 2}), (encoder.to_32, {1: 1})):
            for index, count in blocks.items():
                stage[index] = stage[index][:count]
    _, worst = exported(encoder, _inputs(), [_inputs(1), _inputs(2)])
    assert worst <= 1e-4


def test_features_are_those_of_torchvision_on_normalised_pictures() -> None:
    from torchvision import models

    encoder, images = _encoder("resnet18"), _inputs()["images"]
    network = models.resnet18(weights=None).eval()
    first = encoder.to_16.state_dict()
    names = {str(n): part for n, part in enumerate(("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"))}
    renamed = {names[key.partition(".")[0]] + "." + key.partition(".")[2]: value for key, value in first.items()}
    network.load_state_dict(renamed, strict=False)
    mean, spread = (torch.tensor(x).view(3, 1, 1) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    seen = {}
    network.layer3.register_forward_hook(lambda _, __, output: seen.update(fine=output))
    encoder.to_16.register_forward_hook(lambda _, __, output: seen.update(found=output))
    with torch.inference_mode():
        network((images / 255 - mean) / spread)
        encoder(images, _inputs()["rays"])
    torch.testing.assert_close(seen["found"], seen["fine"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_weights_are_read_from_a_file_with_or_without_their_classifier(tmp_path: Path, ending: str) -> None:
    state = _network()
    path = tmp_path / f"weights{ending}"
    if ending == ".pth":
        torch.save(state, path)
    else:
        save_file({key: value for key, value in state.items() if not key.startswith("fc.")}, path)
    encoder = _encoder("resnet18", path)
    torch.testing.assert_close(encoder.to_16[0].weight, state["conv1.weight"])
    torch.testing.assert_close(encoder.to_32[0][1].conv2.weight, state["layer4.1.conv2.weight"])


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    state = _network()
    state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    del state["bn1.bias"]
    save_file(state, path)
    with pytest.raises(
        ModelError,
        match=r"other\.safetensors: .*bn1\.bias is missing, conv1\.weight is \(64, 3, 3, 3\) for \(64, 3, 7, 7\)$",
    ):
        _encoder("resnet18", path)
    with pytest.raises(ModelError, match=r"other\.safetensors: not weights of SwinTransformer .* and \d+ more$"):
        _encoder("swin_t", path)


def test_files_that_hold_no_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.pth: cannot be read .*; give a torchvision state dict"):
        _encoder("resnet18", tmp_path / "absent.pth")
    for name in ("noise.safetensors", "noise.pth"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(ModelError, match=rf"{name}: cannot be read"):
            _encoder("resnet18", tmp_path / name)
    torch.save({"epoch": 3, "state_dict": _network()}, tmp_path / "training.pth")
    with pytest.raises(ModelError, match=r"training\.pth: holds no state dict"):
        _encoder("resnet18", tmp_path / "training.pth")


def test_sizes_that_do_not_divide_are_refused() -> None:
    encoder = _encoder("resnet18")
    with pytest.raises(InputError, match="images of 100x64 pixels; both sides must be multiples of 32"):
        encoder(torch.zeros(1, 3, 64, 100, dtype=torch.uint8), torch.zeros(1, 24, 12))
    with pytest.raises(InputError, match="rays of 23 cells for images of 96x64 pixels, which have 24"):
        encoder(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), torch.zeros(1, 23, 12))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no camera backbone named 'vgg'; there are resnet18, .*swin_b"):
        _encoder("vgg")
