"""Vision transformers against torch's own transformer layers, and TransUNet against its authors' code."""

from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from torch import Tensor, nn

from segment.networks.encoders.hybrid import HybridViT, StandardizedConv2d, StandardizedConv3d
from segment.networks.encoders.vit import TORCHVISION_NAMES, ViT, ViTPyramid, adapt, fit_position
from segment.networks.padding import count_parameters
from segment.networks.weights import load_encoder

CONF = Path(__file__).parents[3] / "conf" / "network"
# github.com/Beckschen/TransUNet at 02ef001, R50-ViT-B_16 in small, with the weights and the image below.
AUTHORS = [-0.44553, -0.33718, -0.35532, -0.38076, -0.01202, -0.17295, -0.07649, -0.06776]
AUTHORS += [0.23897, 0.22632, 0.20069, 0.21229]
SMALL = {"hidden": 48, "depth": 4, "heads": 4, "mlp": 96}

both_dimensions = pytest.mark.parametrize("dims", [2, 3])


def small_vit(dims: int, **changes) -> ViT:
    return ViT(dims, 2, **(SMALL | {"patch_size": 8, "image_size": 32, "taps": (1, 2, 3, 4)} | changes))


def assert_all_learns(module: nn.Module, outputs: list[Tensor]) -> None:
    sum((output**2).sum() for output in outputs).backward()
    dead = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


@pytest.mark.parametrize(("dims", "size"), [(2, (32, 32)), (2, (40, 16)), (3, (16, 24, 32))])
@pytest.mark.parametrize("class_token", [False, True])
def test_vit_returns_the_image_and_a_map_per_tap_at_any_size(dims, size, class_token):
    torch.manual_seed(0)
    vit = small_vit(dims, class_token=class_token).train()
    image = torch.randn(2, 2, *size)
    first, *maps = vit(image)
    assert first is image
    assert vit.features == [2, 48, 48, 48, 48]
    assert vit.strides == [(1,) * dims] + [(8,) * dims] * 4
    assert [m.shape for m in maps] == [(2, 48, *(s // 8 for s in size))] * 4
    assert_all_learns(vit, maps)


def test_tokens_are_placed_where_their_patches_are():
    torch.manual_seed(0)
    vit = small_vit(3, taps=(4,), class_token=True).eval()
    for layer in vit.layers:
        for part in (layer.attention.out_proj, layer.mlp.linear2):
            nn.init.zeros_(part.weight)
    nn.init.zeros_(vit.position)
    image = torch.randn(1, 2, 16, 24, 32)
    found = vit(image)[1]
    patch = image[:, :, 8:16, 16:24, 0:8]
    torch.testing.assert_close(found[0, :, 1, 2, 0], vit.norm(vit.patches(patch).flatten()))


def test_a_position_embedding_reaches_another_grid_by_linear_interpolation():
    ramp = torch.linspace(0, 7, 8).repeat(4, 1)
    token = torch.full((1, 1, 3), 9.0)
    position = torch.cat((token, ramp.flatten()[None, :, None].expand(1, -1, 3)), dim=1)
    assert fit_position(position, (4, 8), (4, 8)) is position
    coarse = fit_position(position, (4, 8), (2, 4))
    assert torch.equal(coarse[:, :1], token)
    torch.testing.assert_close(coarse[0, 1:, 0].view(2, 4), torch.tensor([0.5, 2.5, 4.5, 6.5]).repeat(2, 1))
    volume = fit_position(position, (4, 8), (5, 4, 8))
    torch.testing.assert_close(volume[0, 1:, 2].view(5, 4, 8), ramp.expand(5, -1, -1))


@both_dimensions
def test_an_image_of_another_size_sees_the_position_embedding_of_its_grid(dims):
    torch.manual_seed(0)
    vit = small_vit(dims, class_token=True).eval()
    nn.init.normal_(vit.position)
    other = small_vit(dims, class_token=True, image_size=[48, 24, 16][:dims]).eval()
    fitted = fit_position(vit.position, vit.grid, other.grid)
    other.load_state_dict(vit.state_dict() | {"position": fitted})
    image = torch.randn(1, 2, *[48, 24, 16][:dims])
    for found, expected in zip(vit(image), other(image), strict=True):
        torch.testing.assert_close(found, expected)
    nn.init.zeros_(vit.position)
    assert not torch.allclose(vit(image)[1], other(image)[1], atol=1e-2)


def test_weights_start_from_a_truncated_normal_with_sd_0_02():
    torch.manual_seed(0)
    vit = small_vit(2, class_token=True)
    drawn = [p for name, p in vit.named_parameters() if "norm" not in name and not name.endswith("bias")]
    assert len(drawn) == 3 + 4 * 4
    assert all(p.std().item() == pytest.approx(0.02, rel=0.3) for p in drawn)
    assert all(not p.any() for name, p in vit.named_parameters() if name.endswith("bias"))


def test_dropout_is_off_by_default_and_in_evaluation():
    torch.manual_seed(0)
    image = torch.randn(1, 2, 32, 32)
    with torch.inference_mode():
        for vit in (small_vit(2).train(), small_vit(2, dropout=0.5).eval()):
            assert torch.equal(vit(image)[-1], vit(image)[-1])
        assert not torch.equal(vit.train()(image)[-1], vit(image)[-1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 5},
        {"taps": (1, 2)},
        {"taps": ()},
        {"taps": (0, 4)},
        {"taps": (2, 1, 4)},
        {"image_size": 36},
        {"image_size": 0},
        {"image_size": (32, 32, 32)},
        {"patch_size": 0},
        {"mlp": -1},
        {"hidden": 0},
    ],
)
def test_arguments_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must|needs"):
        small_vit(2, **wrong)


class TorchViT(nn.Module):
    """torchvision's vit_b_16 in small, of torch's own layers."""

    def __init__(self, image_size: int = 64, hidden: int = 48, depth: int = 4, heads: int = 4, mlp: int = 96) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, hidden, 16, 16)
        self.class_token = nn.Parameter(torch.randn(1, 1, hidden))
        self.position = nn.Parameter(torch.randn(1, (image_size // 16) ** 2 + 1, hidden))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(hidden, heads, mlp, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.ln = nn.LayerNorm(hidden, eps=1e-6)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.conv_proj(image)
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(len(image), -1, -1), tokens), dim=1) + self.position
        for layer in self.layers:
            tokens = layer(tokens)
        return self.ln(tokens)[:, 1:].transpose(1, 2).reshape(patches.shape)

    def torchvision_state(self, first: str, second: str) -> dict[str, Tensor]:
        names = {
            "position": "encoder.pos_embedding",
            "layers.": "encoder.layers.encoder_layer_",
            "self_attn": "self_attention",
            "linear1": f"mlp.{first}",
            "linear2": f"mlp.{second}",
            "norm1": "ln_1",
            "norm2": "ln_2",
        }
        state = {"heads.head.weight": torch.zeros(1000, 48), "heads.head.bias": torch.zeros(1000)}
        for name, value in self.state_dict().items():
            for ours, theirs in names.items():
                name = name.replace(ours, theirs)
            state[f"encoder.{name}" if name.startswith("ln.") else name] = value
        return state


@pytest.mark.parametrize(("first", "second"), [("0", "3"), ("linear_1", "linear_2")])
def test_torchvisions_weights_give_torchvisions_tokens(first, second):
    torch.manual_seed(0)
    original = TorchViT().eval()
    state = original.torchvision_state(first, second)
    encoder = ViTPyramid(2, 3, 64, (8, 8, 8), (1, 2, 3, 4), **SMALL).eval()
    encoder.trunk.load_state_dict(adapt(state, encoder.trunk.grid))
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(image)[-1], original(image), rtol=1e-5, atol=1e-5)


def test_the_names_of_vit_b_16_are_torchvisions():
    with torch.device("meta"):
        trunk = ViTPyramid(2, 3).trunk
    assert count_parameters(trunk) == 85_798_656
    layer = [
        *(f"ln_{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
        *(f"self_attention.in_proj_{kind}" for kind in ("weight", "bias")),
        *(f"{part}.{kind}" for part in ("self_attention.out_proj", "mlp.0", "mlp.3") for kind in ("weight", "bias")),
    ]
    names = ["class_token", "encoder.pos_embedding", "conv_proj.weight", "conv_proj.bias"]
    names += [f"encoder.layers.encoder_layer_{i}.{part}" for i in range(12) for part in layer]
    names += ["encoder.ln.weight", "encoder.ln.bias", "heads.head.weight"]
    given = {name: torch.zeros(1) for name in names} | {"encoder.pos_embedding": torch.zeros(1, 197, 768)}
    assert adapt(given, (14, 14)).keys() == trunk.state_dict().keys()
    assert adapt(given, (14, 14))["position"].shape == trunk.position.shape
    assert len(TORCHVISION_NAMES) == len({theirs for theirs, _ in TORCHVISION_NAMES})


def test_torchvisions_weights_go_to_other_sizes_channels_and_to_3d():
    torch.manual_seed(0)
    original = TorchViT()
    state = original.torchvision_state("0", "3")
    encoder = ViTPyramid(3, 1, 96, (8, 8, 8), (1, 2, 3, 4), **SMALL).eval()
    before = {name: value.clone() for name, value in encoder.up.state_dict().items()}
    load_encoder(encoder, encoder.adapt(state))
    assert all(torch.equal(value, before[name]) for name, value in encoder.up.state_dict().items())
    slice_ = torch.randn(1, 1, 64, 64)
    volume = slice_[:, :, None].expand(-1, -1, 32, -1, -1)
    expected = original.conv_proj(slice_.expand(-1, 3, -1, -1))
    torch.testing.assert_close(encoder.trunk.patches(volume)[:, :, 1], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(encoder.trunk.position[:, :1], original.position[:, :1])
    wanted = fit_position(original.position, (4, 4), (6, 6))[:, 1:]
    torch.testing.assert_close(encoder.trunk.position[:, 1:].unflatten(1, (6, 36))[:, 5], wanted)


@pytest.mark.parametrize("shape", [(197,), (1, 0, 48), (1, 16, 48)])
def test_position_embedding_of_a_non_square_grid_is_refused(shape):
    encoder = ViTPyramid(2, 3, 64, (8, 8, 8), (1, 2, 3, 4), **SMALL)
    state = TorchViT().torchvision_state("0", "3") | {"encoder.pos_embedding": torch.zeros(shape)}
    with pytest.raises(ValueError, match=r"trunk\.position"):
        load_encoder(encoder, encoder.adapt(state))


@pytest.mark.parametrize(("dims", "size"), [(2, (48, 32)), (3, (16, 32, 48))])
def test_pyramid_returns_maps_at_four_strides_and_all_parameters_have_gradients(dims, size):
    torch.manual_seed(0)
    encoder = ViTPyramid(dims, 2, None, (8, 12, 16), (1, 2, 3, 4), **SMALL).train()
    maps = encoder(torch.randn(1, 2, *size))
    assert encoder.features == [8, 12, 16, 48]
    assert [m.shape for m in maps] == [
        (1, features, *(s // step for s, step in zip(size, strides, strict=True)))
        for features, strides in zip(encoder.features, encoder.strides, strict=True)
    ]
    assert encoder.strides == [(2**i,) * dims for i in (1, 2, 3, 4)]
    assert_all_learns(encoder, maps)


@pytest.mark.parametrize("wrong", [{"features": (8, 8)}, {"features": (8, 8, 0)}, {"taps": (2, 3, 4)}])
def test_a_pyramid_needs_three_levels_over_the_last(wrong):
    with pytest.raises(ValueError, match="must"):
        ViTPyramid(2, 1, **({"features": (8, 8, 8), "taps": (1, 2, 3, 4)} | wrong), **SMALL)


@pytest.mark.parametrize("convolution", [StandardizedConv2d(3, 4, 3), StandardizedConv3d(3, 4, 3)])
def test_a_standardised_convolution_ignores_scale_and_offset_of_its_weight(convolution):
    torch.manual_seed(0)
    nn.init.normal_(convolution.weight)  # large beside the constant added to the variance
    image = torch.randn(1, 3, *[6] * (convolution.weight.ndim - 2))
    before = convolution(image)
    used = convolution.weight.detach().flatten(1)
    used = ((used - used.mean(1, keepdim=True)) / used.std(1, keepdim=True, correction=0)).view_as(convolution.weight)
    plain = nn.functional.conv2d if image.ndim == 4 else nn.functional.conv3d
    torch.testing.assert_close(before, plain(image, used, convolution.bias), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        convolution.weight.mul_(7).add_(2)
    torch.testing.assert_close(convolution(image), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("dims", "size"), [(2, (48, 32)), (3, (32, 16, 48))])
def test_hybrid_returns_maps_at_four_strides_and_all_parameters_have_gradients(dims, size):
    torch.manual_seed(0)
    encoder = HybridViT(dims, 2, 32, (2, 1, 1), 24, **SMALL).train()
    maps = encoder(torch.randn(1, 2, *size))
    assert encoder.features == [32, 128, 256, 24]
    assert [m.shape for m in maps] == [
        (1, features, *(s // step for s, step in zip(size, strides, strict=True)))
        for features, strides in zip(encoder.features, encoder.strides, strict=True)
    ]
    assert not maps[1][:, :, -1].any()
    assert maps[1][:, :, 0].any()
    assert_all_learns(encoder, maps)


@pytest.mark.parametrize("wrong", [{"width": 33}, {"width": 0}, {"blocks": (3, 4)}, {"image_size": 40}, {"heads": 7}])
def test_hybrid_with_odd_sizes_is_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        HybridViT(2, 1, **(SMALL | wrong))


def transunet(**encoder) -> nn.Module:
    node = yaml.safe_load((CONF / "transunet.yaml").read_text())
    node.pop("defaults")
    node["encoder"] |= encoder
    classes = 3 if encoder else 9
    return instantiate(node, _convert_="all")(spatial_dims=2, in_channels=3, out_channels=classes)


def test_transunet_has_as_many_parameters_as_its_authors():
    with torch.device("meta"):
        assert count_parameters(transunet()) == 105_277_081


def waves(name: str, shape: tuple[int, ...]) -> Tensor:
    """Values that keep activations in range, the same for any order of the parts."""
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    wave = (0.1 * count * count).sin().float().view(shape)
    if len(shape) > 1 and name != "image":
        return wave * (2 / wave[0].numel()) ** 0.5
    if name.endswith(("weight", "running_var")):
        return 1 + 0.2 * wave
    return wave if name == "image" else 0.2 * wave


def test_transunet_gives_the_logits_of_the_authors_code():
    network = transunet(**SMALL | {"depth": 2}, width=32, blocks=[2, 1, 1], image_size=48).eval()
    state = {}
    for name, value in network.state_dict().items():
        if ".qkv." in name:  # three parts with the authors
            state[name] = waves(name, (len(value) // 3, *value.shape[1:])).repeat(3, *[1] * (value.ndim - 1))
        else:
            state[name] = waves(name, value.shape) if value.is_floating_point() else value
    network.load_state_dict(state)
    with torch.inference_mode():
        logits = network(waves("image", (1, 3, 48, 48)))
    assert logits.std().item() == pytest.approx(0.222099, abs=1e-5)
    torch.testing.assert_close(logits[0, :, 7::32, 7::32].flatten(), torch.tensor(AUTHORS), rtol=0, atol=2e-5)
