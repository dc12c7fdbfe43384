"""Classification networks from the literature as encoders, in 2D and 3D, without their classifiers.

In 2D on RGB they have the layout of the published weights; :mod:`segment.networks.weights` loads these.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from monai.networks.layers.factories import Conv, Norm, Pool
from monai.networks.nets import DenseNet, EfficientNetBN, ResNet
from torch import Tensor, nn

from segment.networks.encoders.vit import ViTPyramid

# Patterns that, applied in order, turn the names of our tensors into the published ones.
FEATURES = ((r"^trunk\.", "features."),)
DENSENET = ((r"\.layers\.", "."), *FEATURES)
RESNET = ((r"^trunk\.", ""),)
EFFICIENTNET = ((r"^trunk\.stack\d+\.", "_blocks."), *RESNET)


class ClassicEncoder(nn.Module):
    """The layers of a classification network; the outputs of some of them are the maps.

    Args:
        trunk: The named layers in order, up to that of the last map.
        maps: Name of each layer whose output is a map, finest first, to the channels of the map.
        published: Source of the weights that fit, for messages.
        names: Patterns in our tensors' names and their replacements in the published weights.
        spatial_dims: 2 or 3.

    Attributes:
        features: Channels of each map.
        strides: Image voxels in one voxel of each map, one number per axis; powers of two that end at 32.
    """

    def __init__(
        self,
        trunk: nn.Sequential,
        maps: Mapping[str, int],
        published: str,
        names: Sequence[tuple[str, str]],
        spatial_dims: int,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.maps = tuple(maps)
        self.features = list(maps.values())
        self.strides = [(32 >> i,) * spatial_dims for i in reversed(range(len(maps)))]
        self.published = published
        self._names = tuple(names)

    def published_name(self, name: str) -> str:
        """The name of one of our tensors in the published weights."""
        for pattern, new in self._names:
            name = re.sub(pattern, new, name)
        return name

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (batch, in_channels, *spatial) to the maps, finest first; sizes must be multiples of 32."""
        hidden, maps = image, []
        for name, layer in self.trunk.named_children():
            hidden = layer(hidden)
            if name in self.maps:
                maps.append(hidden)
        return maps


def _check(spatial_dims: int, in_channels: int) -> None:
    if spatial_dims not in (2, 3) or not isinstance(in_channels, int) or in_channels < 1:
        raise ValueError(f"spatial_dims={spatial_dims!r} must be 2 or 3, in_channels={in_channels!r} a positive int")


def _he_normal(network: nn.Module) -> None:
    """Initialise as torchvision does: convolutions from He's normal distribution over the fan-out, biases with zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def alexnet(spatial_dims: int, in_channels: int) -> ClassicEncoder:
    """AlexNet (Krizhevsky 2014, arXiv 1404.5997, as in torchvision), with maps at strides 4, 8, 16 and 32.

    The first convolution is padded by 4 instead of 2 and the pools by 1 instead of 0, which changes no weight, so that
    each map is an exact fraction of the image (224 -> 56, 28, 14, 7 instead of 55, 27, 13, 6).
    """
    _check(spatial_dims, in_channels)
    conv: Any = Conv[Conv.CONV, spatial_dims]
    pool = partial(Pool[Pool.MAX, spatial_dims], kernel_size=3, stride=2, padding=1)
    relu = partial(nn.ReLU, inplace=True)
    layers = [
        *(conv(in_channels, 64, kernel_size=11, stride=4, padding=4), relu(), pool()),
        *(conv(64, 192, kernel_size=5, padding=2), relu(), pool()),
        *(conv(192, 384, kernel_size=3, padding=1), relu()),
        *(conv(384, 256, kernel_size=3, padding=1), relu()),
        *(conv(256, 256, kernel_size=3, padding=1), relu(), pool()),
    ]
    maps = {"1": 64, "4": 192, "11": 256, "12": 256}
    return ClassicEncoder(nn.Sequential(*layers), maps, "torchvision's alexnet", FEATURES, spatial_dims)


def vgg(depths: Sequence[int], published: str, spatial_dims: int, in_channels: int) -> ClassicEncoder:
    """VGG (Simonyan & Zisserman 2015, arXiv 1409.1556, table 1, without batch normalisation).

    The maps at strides 1 to 16 are the outputs of the last convolution there; that at 32 is the last pool's.

    Args:
        depths: Convolutions before each of the five pools.
        published: Source of the weights that fit.
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
    """
    _check(spatial_dims, in_channels)
    conv: Any = Conv[Conv.CONV, spatial_dims]
    pool: Any = Pool[Pool.MAX, spatial_dims]
    layers: list[nn.Module] = []
    maps: dict[str, int] = {}
    channels = in_channels
    for features, depth in zip((64, 128, 256, 512, 512), depths, strict=True):
        for _ in range(depth):
            layers += [conv(channels, features, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
            channels = features
        maps[str(len(layers) - 1)] = features
        layers.append(pool(kernel_size=2, stride=2))
    maps[str(len(layers) - 1)] = channels
    trunk = nn.Sequential(*layers)
    _he_normal(trunk)
    return ClassicEncoder(trunk, maps, published, FEATURES, spatial_dims)


def resnet(
    block: str,
    depths: Sequence[int],
    published: str,
    spatial_dims: int,
    in_channels: int,
    pooled: bool = False,
) -> ClassicEncoder:
    """ResNet (He et al. 2016, arXiv 1512.03385, table 1; the stride in the 3x3 convolution, as in torchvision).

    Args:
        block: ``basic`` or ``bottleneck``.
        depths: Blocks in each of the four stages.
        published: Source of the weights that fit.
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        pooled: Whether the finest map is the stem's after pooling, at stride 4, as in LinkNet.
    """
    _check(spatial_dims, in_channels)
    net = ResNet(
        block,
        list(depths),
        [64, 128, 256, 512],
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        conv1_t_stride=2,
        feed_forward=False,
        bias_downsample=False,
    )
    names = ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3", "layer4")
    trunk = nn.Sequential(OrderedDict((name, getattr(net, name)) for name in names))
    wide = 4 if block == "bottleneck" else 1
    maps = {"maxpool" if pooled else "act": 64}
    maps |= {f"layer{i + 1}": wide * features for i, features in enumerate((64, 128, 256, 512))}
    encoder = ClassicEncoder(trunk, maps, published, RESNET, spatial_dims)
    if pooled:
        encoder.strides[0] = encoder.strides[1]
    return encoder


def densenet(
    depths: Sequence[int], growth: int, stem: int, published: str, spatial_dims: int, in_channels: int
) -> ClassicEncoder:
    """DenseNet-BC (Huang et al. 2017, arXiv 1608.06993, table 1).

    The maps are the outputs of the dense blocks before the transitions; the last one is normalised, as in the
    published trunks.

    Args:
        depths: Layers in each of the four dense blocks.
        growth: Channels that each layer adds.
        stem: Channels of the first convolution.
        published: Source of the weights that fit.
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
    """
    _check(spatial_dims, in_channels)
    trunk = DenseNet(spatial_dims, in_channels, 1, init_features=stem, growth_rate=growth, block_config=depths).features
    maps, channels = {"relu0": stem}, stem
    for i, depth in enumerate(depths):
        channels += depth * growth
        maps["norm5" if i == len(depths) - 1 else f"denseblock{i + 1}"] = channels
        channels //= 2
    return ClassicEncoder(trunk, maps, published, DENSENET, spatial_dims)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, depthwise convolution, narrow (Sandler et al. 2018, fig. 4d).

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels.
        stride: Stride of the middle convolution.
        expansion: How many times more channels the middle has.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = expansion * in_channels
        layers: list[nn.Module] = [_conv_norm(spatial_dims, in_channels, middle)] if expansion > 1 else []
        layers += [
            _conv_norm(spatial_dims, middle, middle, 3, stride, groups=middle),
            *list(_conv_norm(spatial_dims, middle, out_channels))[:2],
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride)."""
        result: Tensor = self.conv(image)
        return image + result if self.shortcut else result


def _conv_norm(
    spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv: Any = Conv[Conv.CONV, spatial_dims]
    norm: Any = Norm[Norm.BATCH, spatial_dims]
    return nn.Sequential(
        conv(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False),
        norm(out_channels),
        nn.ReLU6(inplace=True),
    )


def mobilenet_v2(spatial_dims: int, in_channels: int) -> ClassicEncoder:
    """MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381, table 2), including the convolution to 1280 channels."""
    _check(spatial_dims, in_channels)
    layers: list[nn.Module] = [_conv_norm(spatial_dims, in_channels, 32, 3, stride=2)]
    channels = 32
    # Expansion, channels, blocks and first stride of each row of the table.
    for expansion, features, depth, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(depth):
            layers.append(InvertedResidual(spatial_dims, channels, features, 1 if i else stride, expansion))
            channels = features
    layers.append(_conv_norm(spatial_dims, channels, 1280))
    trunk = nn.Sequential(*layers)
    _he_normal(trunk)
    maps = {"1": 16, "3": 24, "6": 32, "13": 96, "18": 1280}
    return ClassicEncoder(trunk, maps, "torchvision's mobilenet_v2", FEATURES, spatial_dims)


def efficientnet(spatial_dims: int, in_channels: int) -> ClassicEncoder:
    """EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1), MONAI's, before the convolution to 1280 channels.

    Weights fit in the layout of EfficientNet-PyTorch. Those of torchvision do not: they were trained with
    other paddings in the strided convolutions and another epsilon in the normalisation.
    """
    _check(spatial_dims, in_channels)
    net = EfficientNetBN(
        "efficientnet-b0", pretrained=False, spatial_dims=spatial_dims, in_channels=in_channels, num_classes=1
    )
    stem = ("_conv_stem_padding", "_conv_stem", "_bn0", "_swish")
    layers = [(name, getattr(net, name)) for name in stem] + [(f"stack{n}", s) for n, s in net._blocks.named_children()]
    maps = {"stack0": 16, "stack1": 24, "stack2": 40, "stack4": 112, "stack6": 320}
    published = "EfficientNet-PyTorch's efficientnet-b0 (torchvision's has other paddings)"
    return ClassicEncoder(nn.Sequential(OrderedDict(layers)), maps, published, EFFICIENTNET, spatial_dims)


# Name to constructor, called with spatial_dims and in_channels.
CLASSIC: dict[str, Callable[..., nn.Module]] = {
    "alexnet": alexnet,
    "vgg11": partial(vgg, (1, 1, 2, 2, 2), "torchvision's vgg11"),
    "vgg16": partial(vgg, (2, 2, 3, 3, 3), "torchvision's vgg16"),
    "resnet18": partial(resnet, "basic", (2, 2, 2, 2), "torchvision's resnet18"),
    "resnet18_pooled": partial(resnet, "basic", (2, 2, 2, 2), "torchvision's resnet18", pooled=True),
    "resnet34": partial(resnet, "basic", (3, 4, 6, 3), "torchvision's resnet34"),
    "resnet50": partial(resnet, "bottleneck", (3, 4, 6, 3), "torchvision's resnet50"),
    "resnet101": partial(resnet, "bottleneck", (3, 4, 23, 3), "torchvision's resnet101"),
    "densenet121": partial(densenet, (6, 12, 24, 16), 32, 64, "torchvision's densenet121"),
    "densenet169": partial(densenet, (6, 12, 32, 32), 32, 64, "torchvision's densenet169"),
    "densenet161": partial(densenet, (6, 12, 36, 24), 48, 96, "torchvision's densenet161"),
    "mobilenet_v2": mobilenet_v2,
    "efficientnet": efficientnet,
    "vit_b16": ViTPyramid,
}
