"""Weight gradients of 3D convolutions that oneDNN computes wrongly in bf16, computed in fp32 instead.

oneDNN 3.12 (torch 2.13.0) to 3.14 walks the planes of a map in ``compute_od_loop_common`` of
``jit_avx512_core_bf16_conv_kernel.cpp``. Where the map has fewer planes than the kernel, the loop moves on to the next
plane of the source while the window still starts in the front padding, so it reads planes behind the end of its buffer:
values of freed memory, other ones each time. The loop over rows treats that case by itself and is right, and so are the
forward pass and the gradient of the input.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


@functools.cache
def install() -> torch.library.Library:
    """Let every convolution of this process, whatever network calls it, get right weight gradients in bf16 on the CPU.

    Takes effect at the operator ``aten::convolution_backward``, so it also holds for networks that are not ours. Only
    3D convolutions in bf16 over a map with fewer planes than the kernel are computed differently; these maps are small.

    Returns:
        What keeps it in effect; the same at every call.
    """
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
        if not (wanted[1] and is_faulty(gradient if transposed else image, weight, dilation)):
            found: Gradients = original.call_boxed(keys, gradient, image, weight, *rest, wanted)
            return found
        of_image = None
        if wanted[0]:
            of_image = original.call_boxed(keys, gradient, image, weight, *rest, (True, False, False))[0]
        tensors = (gradient.float(), image.float(), weight.float())
        _, of_weight, of_bias = original.call_boxed(keys, *tensors, *rest, (False, True, wanted[2]))
        return of_image, of_weight.to(weight.dtype), None if of_bias is None else of_bias.to(weight.dtype)

    library = torch.library.Library("aten", "IMPL")
    library.impl("convolution_backward", convolution_backward, "CPU", with_keyset=True)
    return library


def is_faulty(image: Tensor, weight: Tensor, dilation: Sequence[int]) -> bool:
    """Whether oneDNN would read beyond the map for the weight gradient.

    Args:
        image: What the kernel slides over, (batch, channel, *spatial): the input, of a transposed convolution the
            gradient of its output.
        weight: (output, input / groups, *kernel), input and output the other way round where transposed.
        dilation: Of the kernel along each axis.
    """
    if image.dtype != torch.bfloat16 or image.ndim != 5:
        return False
    return image.shape[2] < dilation[0] * (weight.shape[2] - 1) + 1
