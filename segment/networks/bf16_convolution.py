"""Computes in fp32 the convolutions that oneDNN gets wrong in bf16 on the CPU.

Weight gradients where the map is smaller than the kernel along an axis. oneDNN 3.12 (torch 2.13.0) to 3.14 iterates
over the planes of a 3D map in ``compute_od_loop_common`` of ``jit_avx512_core_bf16_conv_kernel.cpp``: with fewer planes
than the kernel has, it moves on to the next plane while the window still starts in the padding, and reads planes beyond
the end of its buffer, which is freed memory. With a stride of 3, rows are misread in the same way, in 2D as well
(``benchmarks/precision_survey.py``).

On processors with AMX: strided 3D convolutions whose output has one voxel along the last axis (pytorch issue 169688),
also as the input gradient of a transposed convolution; and 3D convolutions with few channels over a single plane, such
as a network's first layer over a flat patch. They read freed memory too.

On processors with AVX-512, also in fp32: weight gradients of strided 3D convolutions whose kernel of seven voxels or
more is as large as the map. oneDNN writes beyond the end of its buffer, so torch's own kernels compute these.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


@functools.cache
def install() -> torch.library.Library:
    """Make all convolutions of this process compute correct values and gradients in bf16 on the CPU.

    It replaces torch's operators, so it also covers networks from other libraries. Only convolutions over the smallest
    maps are computed differently; all others are unchanged, and as fast.

    Returns:
        The library that keeps it in effect; the same at every call.
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
        strided = ends_in_one_voxel(image, weight, stride, padding, dilation)
        if transposed or not (strided or is_single_plane(image, weight)):
            output: Tensor = original.call_boxed(keys, image, weight, bias, *rest)
            return output
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
        output_mask: Sequence[bool],
    ) -> Gradients:
        rest = (bias_sizes, stride, padding, dilation, transposed, output_padding, groups)
        # A transposed convolution slides its kernel over the gradient of its output.
        source = gradient if transposed else image
        strided = ends_in_one_voxel(source, weight, stride, padding, dilation)
        flat = transposed and is_single_plane(source, weight)
        small = is_smaller_than_kernel(source, weight, dilation)
        wrong = (strided or flat, strided or small, strided or small)
        in_fp32 = tuple(requested and affected for requested, affected in zip(output_mask, wrong, strict=True))
        overrun = output_mask[1] and is_overrun(source, weight, stride)
        if overrun and image.dtype == torch.float32:
            with _without_onednn():
                native: Gradients = original.call_boxed(keys, gradient, image, weight, *rest, output_mask)
            return native
        if not any(in_fp32):
            unchanged: Gradients = original.call_boxed(keys, gradient, image, weight, *rest, output_mask)
            return unchanged
        unaffected = tuple(requested and not exact for requested, exact in zip(output_mask, in_fp32, strict=True))
        results: list[Tensor | None] = [None, None, None]
        if any(unaffected):
            results = list(original.call_boxed(keys, gradient, image, weight, *rest, unaffected))
        with _without_onednn() if overrun else contextlib.nullcontext():
            wide = original.call_boxed(keys, gradient.float(), image.float(), weight.float(), *rest, in_fp32)
        for index, exact in enumerate(in_fp32):
            if exact:
                results[index] = wide[index].to(weight.dtype)
        return results[0], results[1], results[2]

    return convolution_backward


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    # torch.backends.mkldnn.flags would do the same, but warns about its other flags each time.
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def is_smaller_than_kernel(image: Tensor, weight: Tensor, dilation: Sequence[int]) -> bool:
    """Whether a map in bf16 is smaller than the kernel along an axis, so that its weight gradient may be wrong.

    Args:
        image: Input that the kernel slides over, (batch, channel, *spatial).
        weight: (channel, channel, *kernel).
        dilation: Dilation of the kernel along each axis.
    """
    sizes = zip(image.shape[2:], weight.shape[2:], dilation, strict=True)
    return image.dtype == torch.bfloat16 and any(extent < step * (size - 1) + 1 for extent, size, step in sizes)


def is_overrun(image: Tensor, weight: Tensor, stride: Sequence[int]) -> bool:
    """Whether the weight gradient of a strided 3D convolution may be wrong in fp32 too.

    Args:
        image: Input that the kernel slides over, (batch, channel, *spatial).
        weight: (channel, channel, *kernel).
        stride: Stride along each axis.
    """
    large = any(extent <= size and size >= 7 for extent, size in zip(image.shape[2:], weight.shape[2:], strict=True))
    return image.ndim == 5 and large and max(stride) > 1


def is_single_plane(image: Tensor, weight: Tensor) -> bool:
    """Whether a 3D kernel of several planes slides over a single plane in bf16, so that its values may be wrong.

    Args:
        image: Input that the kernel slides over, (batch, channel, *spatial).
        weight: (channel, channel, *kernel).
    """
    return image.dtype == torch.bfloat16 and image.ndim == 5 and image.shape[2] == 1 and weight.shape[2] > 1


def ends_in_one_voxel(
    image: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> bool:
    """Whether the output of a strided 3D convolution in bf16 has one voxel along the last axis, so it may be wrong.

    Args:
        image: The input, (batch, channel, *spatial).
        weight: (output, input / groups, *kernel).
        stride: Stride along each axis.
        padding: Padding along each axis.
        dilation: Dilation of the kernel along each axis.
    """
    if image.dtype != torch.bfloat16 or image.ndim != 5 or stride[-1] == 1:
        return False
    window = dilation[-1] * (weight.shape[-1] - 1) + 1
    return (image.shape[-1] + 2 * padding[-1] - window) // stride[-1] == 0
