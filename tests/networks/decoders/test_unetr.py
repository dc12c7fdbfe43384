"""UNETR against MONAI's, and MONAI's Swin UNETR under our padding."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from monai.networks.blocks import selfattention
from monai.networks.nets import UNETR, swin_unetr
from torch import Tensor, nn

from segment.networks.decoders.unetr import UNETRDecoder
from segment.networks.encoders.vit import ViT
from segment.networks.padding import count_parameters

CONF = Path(__file__).parents[3] / "conf" / "network"
# In MONAI's names, and in those of a network of our encoder, decoder and head.
NAMES = {
    "vit.patch_embedding.patch_embeddings.": "encoder.patches.",
    "vit.patch_embedding.position_embeddings": "encoder.position",
    "vit.blocks.": "encoder.layers.",
    ".attn.": ".attention.",
    "vit.norm.": "encoder.norm.",
    "encoder1.": "decoder.image.",
    "encoder2.": "decoder.project.0.",
    "encoder3.": "decoder.project.1.",
    "encoder4.": "decoder.project.2.",
    "decoder5.": "decoder.up.0.",
    "decoder4.": "decoder.up.1.",
    "decoder3.": "decoder.up.2.",
    "decoder2.": "decoder.up.3.",
    "out.conv.conv.": "heads.0.0.",
}


class Rearrange(nn.Module):
    """Stands for the two patterns of einops' layer that MONAI's attention asks for."""

    def __init__(self, pattern: str, qkv: int = 0, l: int = 0) -> None:  # noqa: E741
        super().__init__()
        self.pattern, self.heads = pattern, l

    def forward(self, values: Tensor) -> Tensor:
        if self.pattern == "b h (qkv l d) -> qkv b l h d":
            return values.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        assert self.pattern == "b l h d -> b h (l d)"
        return values.transpose(1, 2).flatten(2)


def rearrange(values: Tensor, pattern: str) -> Tensor:
    """Stands for einops' function where it only permutes, as in MONAI's Swin UNETR."""
    before, after = (side.split() for side in pattern.split("->"))
    return values.permute(*(before.index(axis) for axis in after))


def described(name: str, **changes: dict[str, Any]) -> Any:
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    node.pop("defaults")
    for part, arguments in changes.items():
        node[part] |= arguments
    return instantiate(node, _convert_="all")


def small_unetr(dims: int, channels: int = 1, **more: Any) -> nn.Module:
    encoder = {"hidden": 24, "heads": 4, "mlp": 48, "image_size": 32}
    made = described("unetr", encoder=encoder, decoder={"features": [4, 8, 16, 32]})
    return made(spatial_dims=dims, in_channels=channels, out_channels=3, **more)


@pytest.mark.parametrize(("dims", "channels"), [(2, 3), (3, 1)])
def test_with_monais_weights_unetr_gives_monais_logits(monkeypatch, dims, channels):
    monkeypatch.setattr(selfattention, "Rearrange", Rearrange)
    torch.manual_seed(0)
    peer = UNETR(channels, 3, 32, 4, hidden_size=24, mlp_dim=48, num_heads=4, spatial_dims=dims).eval()
    ours = small_unetr(dims, channels).eval()
    state = {}
    for name, value in peer.state_dict().items():
        for theirs, own in NAMES.items():
            name = name.replace(theirs, own)
        state[name] = value + 0.1 * torch.randn_like(value)
    peer.load_state_dict(dict(zip(peer.state_dict(), state.values(), strict=True)))
    unused = [name for name in state if "cross_attn" in name]
    assert len(unused) == 24
    ours.load_state_dict({name: value for name, value in state.items() if name not in unused})
    image = torch.randn(2, channels, *[32] * dims)
    with torch.inference_mode():
        expected = peer(image)
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(image), expected, rtol=1e-5, atol=1e-5)


def test_unetr_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = described("unetr")(spatial_dims=3, in_channels=1, out_channels=14)
    assert count_parameters(network) == 92_784_046
    # The paper says 92.58 million: counters that go by convolutions and linear layers see no others.
    seen = (nn.Linear, nn.Conv3d, nn.ConvTranspose3d)
    counted = sum(count_parameters(module) for module in network.modules() if isinstance(module, seen))
    assert counted == 92_579_758


@pytest.mark.parametrize(("dims", "size"), [(2, (33, 50)), (3, (17, 32, 20))])
def test_unetr_accepts_any_size_and_all_parameters_have_gradients(dims, size):
    torch.manual_seed(0)
    network = small_unetr(dims, 2, deep_supervision=3).train()
    outputs = network(torch.randn(1, 2, *size))
    assert [o.shape for o in outputs] == [(1, 3, *(-(-s // step) for s in size)) for step in (1, 2, 4, 8)]
    sum((o**2).mean() for o in outputs).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_layers_can_be_checkpointed():
    image, calls, gradients = torch.randn(1, 1, 32, 32), [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = small_unetr(2, checkpointing=checkpointing).train()
        seen: list[int] = []
        network.encoder.layers[5].attention.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        (network(image) ** 2).mean().backward()
        calls.append(len(seen))
        gradients.append([p.grad for p in network.parameters()])
    assert calls == [1, 2]
    assert all(torch.equal(kept, anew) for kept, anew in zip(*gradients, strict=True))


def test_patches_of_eight_voxels_make_three_levels():
    encoder = ViT(2, 1, patch_size=8, hidden=24, depth=3, heads=4, mlp=48, taps=(1, 2, 3))
    decoder = UNETRDecoder(2, encoder, (4, 6, 8))
    outputs = decoder(encoder(torch.randn(1, 1, 32, 16)))
    assert decoder.features == [4, 6, 8]
    assert decoder.strides == [(1, 1), (2, 2), (4, 4)]
    assert [o.shape for o in outputs] == [(1, 4, 32, 16), (1, 6, 16, 8), (1, 8, 8, 4)]


@pytest.mark.parametrize("wrong", [{"patch_size": 8}, {"patch_size": (16, 8)}, {"taps": (1, 2, 4)}])
def test_unsuitable_maps_are_refused(wrong):
    encoder = ViT(2, 1, **({"hidden": 24, "depth": 4, "heads": 4, "mlp": 48, "taps": (1, 2, 3, 4)} | wrong))
    with pytest.raises(ValueError, match="maps of patches"):
        UNETRDecoder(2, encoder)


@pytest.mark.parametrize(("dims", "size"), [(2, (32, 20)), (3, (32, 32, 32))])
def test_swin_unetr_accepts_small_images_and_all_parameters_have_gradients(monkeypatch, dims, size):
    monkeypatch.setattr(swin_unetr, "rearrange", rearrange)
    torch.manual_seed(0)
    network = described("swinunetr", network={"feature_size": 12})(spatial_dims=dims, in_channels=2, out_channels=3)
    output = network.train()(torch.randn(1, 2, *size))
    assert output.shape == (1, 3, *size)
    (output**2).mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_swin_unetr_has_the_published_number_of_parameters():
    network = described("swinunetr")(spatial_dims=3, in_channels=1, out_channels=14)
    assert count_parameters(network) == 62_187_296
    # The papers say 61.98 million, counters that overlook bare parameters 61.99.
    tables = [p.numel() for name, p in network.named_parameters() if name.endswith("relative_position_bias_table")]
    assert 62_187_296 - sum(tables) == 61_989_566
