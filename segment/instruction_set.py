"""The instruction set that oneDNN uses on this processor: results, and the speed in bf16, depend on it.

torch reports the processor's features; the environment variable ONEDNN_MAX_CPU_ISA (formerly DNNL_MAX_CPU_ISA) limits
which of them oneDNN may use. Names, features and their order are those of oneDNN's cpu_isa_traits.hpp.
"""

from __future__ import annotations

import os
import platform

_AVX2 = frozenset({"avx", "avx2"})
_AVX2_VNNI = _AVX2 | {"avx_vnni"}
_AVX2_VNNI_2 = _AVX2_VNNI | {"avx_vnni_int8", "avx_ne_convert"}
_AVX512 = _AVX2 | {"avx512_f", "avx512_bw", "avx512_vl", "avx512_dq"}
_AVX512_VNNI = _AVX512 | {"avx512_vnni"}
_AVX512_BF16 = _AVX512_VNNI | {"avx512_bf16"}
_AVX10_1 = _AVX512_BF16 | _AVX2_VNNI | {"avx512_fp16"}
_AVX10_2 = _AVX10_1 | _AVX2_VNNI_2 | {"avx10_2"}
_AMX = frozenset({"amx_tile", "amx_int8", "amx_bf16"})
# Each name with the features it requires, in the order in which oneDNN looks for them.
FEATURES = {
    "AVX10_2_AMX_2": _AVX10_2 | _AMX | {"amx_fp16"},
    "AVX10_2": _AVX10_2,
    "AVX10_1_512_AMX_FP16": _AVX10_1 | _AMX | {"amx_fp16"},
    "AVX10_1_512_AMX": _AVX10_1 | _AMX,
    "AVX10_1_512": _AVX10_1,
    "AVX512_CORE_BF16": _AVX512_BF16,
    "AVX512_CORE_VNNI": _AVX512_VNNI,
    "AVX512_CORE": _AVX512,
    "AVX2_VNNI_2": _AVX2_VNNI_2,
    "AVX2_VNNI": _AVX2_VNNI,
    "AVX2": _AVX2,
    "AVX": frozenset({"avx"}),
    "SSE41": frozenset(),
}
ALIASES = {
    "AVX512_CORE_FP16": "AVX10_1_512",
    "AVX512_CORE_AMX": "AVX10_1_512_AMX",
    "AVX512_CORE_AMX_FP16": "AVX10_1_512_AMX_FP16",
    "AVX10_2_512": "AVX10_2",
    "AVX10_2_512_AMX_2": "AVX10_2_AMX_2",
}


def onednn_isa() -> str:
    """Name of the instruction set, such as AVX2; ``none`` if torch has no oneDNN or the processor is not x86."""
    import torch

    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return "none"
    usable = _of_processor() & _allowed()
    return next(name for name, required in FEATURES.items() if required <= usable)


def bf16_in_hardware() -> bool:
    """Whether oneDNN computes bf16 with instructions for it, rather than hundreds of times slower without."""
    return "avx512_bf16" in FEATURES.get(onednn_isa(), ())


def bf16_is_faster() -> bool:
    """Whether oneDNN multiplies matrices faster in bf16 than in fp32.

    Intel's processors from AVX512-FP16 on have AMX for that. Where it is disabled, as on some virtual machines,
    AVX512-BF16 alone reaches half the speed of fp32 (benchmarks/README.md).
    """
    features = FEATURES.get(onednn_isa(), frozenset())
    return bf16_in_hardware() and ("amx_bf16" in features or "avx512_fp16" not in features)


def _allowed() -> frozenset[str]:
    """The features that the environment allows oneDNN to use: all unless it names an instruction set of oneDNN's."""
    setting = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    name = ALIASES.get(setting.upper(), setting.upper())
    return FEATURES.get(name, frozenset().union(*FEATURES.values()))


def _of_processor() -> frozenset[str]:
    import torch

    if hasattr(torch.cpu, "get_capabilities"):
        return frozenset(name for name, has in torch.cpu.get_capabilities().items() if has)
    # An older torch reports only some features; each implies others.
    reported = {
        "AVX2": torch.cpu._is_avx2_supported(),
        "AVX512_CORE": torch.cpu._is_avx512_supported(),
        "AVX512_CORE_VNNI": torch.cpu._is_vnni_supported(),
        "AVX512_CORE_BF16": torch.cpu._is_avx512_bf16_supported(),
        "AVX10_1_512_AMX": torch.cpu._is_amx_tile_supported(),
    }
    return frozenset().union(*(FEATURES[name] for name, has in reported.items() if has))


def precision(requested: str, accelerator: str) -> str:
    """Lightning's name for the precision to compute in.

    Args:
        requested: Lightning's name, or ``auto``: bf16-mixed if the hardware is faster in it, else 32-true, or
            16-mixed on a GPU of NVIDIA or AMD.
        accelerator: Lightning's name for the device; ``auto``: a GPU if there is one, a Mac's too, else the CPU.
    """
    if requested != "auto":
        return requested
    if accelerator in ("gpu", "cuda", "auto"):
        import torch  # here, since it takes a second or two; other mistakes should be reported first

        if not torch.cuda.is_available():
            if accelerator == "auto" and not torch.backends.mps.is_available():
                return precision(requested, "cpu")
            return "32-true"  # a Mac, whose GPU gains nothing from half precision
        # Older GPUs (V100, T4, RTX 20xx) only emulate bf16, slower than fp32.
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator == "mps":
        return "32-true"
    return "bf16-mixed" if bf16_is_faster() else "32-true"
