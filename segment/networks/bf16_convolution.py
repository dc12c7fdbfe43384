"""Convolutions that oneDNN computes wrongly in bf16 on the CPU, computed in fp32 instead.

Weight gradients where the map is smaller than the kernel along an axis. oneDNN 3.12 (torch 2.13.0) to 3.14 walks the
planes of a 3D map in ``compute_od_loop_common`` of ``jit_avx512_core_bf16_conv_kernel.cpp``: with fewer planes than the
kernel has, it moves on to the next plane while the window still starts in the padding, and reads planes behind the end
of its buffer, which are values of freed memory. With a stride of 3 rows are read so too, in 2D as well
(``benchmarks/precision_survey.py``).

Strided 3D convolutions whose last axis comes to one voxel, on processors with AMX: pytorch issue 169688.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


@functools.cache
def install() -> torch.library.Library:
    """Let all convolutions of this process have right values and gradients in bf16 on the CPU.

    Takes effect at torch's operators, so it also holds for networks that are not ours. The convolutions that are
    computed otherwise are those over the smallest maps; all others stay as they are, and as fast.

    Returns:
        What keeps it in effect; the same at every call.
    """
    library = torch.library.Library("aten", "IMPL")
    library.impl("convolution", _forward(), "CPU", with_keyset=True)
    library.impl("convolution_backward", _backward(), "CPU", with_keyset=True)
    return library


def _forward() -> Callable[..., Tensor]:
    original = torch.library.get_kernel("aten::convolution", "CPU")

    def convolution(
        keys: torch._C.DispatchKeySet,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool,
        output_padding: Sequence[int],
        groups: int,
    ) -> Tensor:
        rest = (stride, padding, dilation, transposed, output_padding, groups)
        if transposed or not ends_in_one_voxel(image, weight, stride, padding, dilation):
            found: Tensor = original.call_boxed(keys, image, weight, bias, *rest)
            return found
        wide = (image.float(), weight.float(), None if bias is None else bias.float())
        exact: Tensor = original.call_boxed(keys, *wide, *rest)
        return exact.to(image.dtype)

    return convolution


def _backward() -> Callable[..., Gradients]:
    original = torch.library.get_kernel("aten::convolution_backward", "CPU")

    def convolution_backward(
        keys: torch._C.DispatchKeySet,
        gradient: Tensor,
        image: Tensor,
        weight: Tensor,
        bias_sizes: Sequence[int] | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool,
        output_padding: Sequence[int],
        groups: int,
        wanted: Sequence[bool],
    ) -> Gradients:
        rest = (bias_sizes, stride, padding, dilation, transposed, output_padding, groups)
        strided = not transposed and ends_in_one_voxel(image, weight, stride, padding, dilation)
        # A transposed convolution slides its kernel over the gradient of its output.
        small = wanted[1] and is_smaller_than_kernel(gradient if transposed else image, weight, dilation)
        in_fp32 = tuple(asked and (strided or (small and place > 0)) for place, asked in enumerate(wanted))
        if not any(in_fp32):
            unchanged: Gradients = original.call_boxed(keys, gradient, image, weight, *rest, wanted)
            return unchanged
        as_is = tuple(asked and not exact for asked, exact in zip(wanted, in_fp32, strict=True))
        found: list[Tensor | None] = [None, None, None]
        if any(as_is):
            found = list(original.call_boxed(keys, gradient, image, weight, *rest, as_is))
        wide = original.call_boxed(keys, gradient.float(), image.float(), weight.float(), *rest, in_fp32)
        for place, exact in enumerate(in_fp32):
            if exact:
                found[place] = wide[place].to(weight.dtype)
        return found[0], found[1], found[2]

    return convolution_backward


def is_smaller_than_kernel(image: Tensor, weight: Tensor, dilation: Sequence[int]) -> bool:
    """Whether a map in bf16 is smaller than the kernel along an axis, so that its weight gradient may be wrong.

    Args:
        image: What the kernel slides over, (batch, channel, *spatial).
        weight: (channel, channel, *kernel).
        dilation: Of the kernel along each axis.
    """
    sizes = zip(image.shape[2:], weight.shape[2:], dilation, strict=True)
    return image.dtype == torch.bfloat16 and any(extent < step * (size - 1) + 1 for extent, size, step in sizes)


def ends_in_one_voxel(
    image: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether a strided 3D convolution in bf16 leaves one voxel along the last axis, so that it may be wrong.

    Args:
        image: The input, (batch, channel, *spatial).
        weight: (output, input / groups, *kernel).
        stride: Along each axis.
        padding: Along each axis.
        dilation: Of the kernel along each axis.
    """
    if image.dtype != torch.bfloat16 or image.ndim != 5 or stride[-1] == 1:
        return False
    window = dilation[-1] * (weight.shape[-1] - 1) + 1
    return (image.shape[-1] + 2 * padding[-1] - window) // stride[-1] == 0
