import os
import platform
import subprocess
import sys

import pytest
import torch

from segment import instruction_set
from segment.inference.precision import precision
from segment.instruction_set import ALIASES, FEATURES, bf16_in_hardware, bf16_is_faster, onednn_isa

# The names that oneDNN prints in verbose mode, where a test can produce them.
IN_WORDS = {
    "AVX10_1_512_AMX_FP16": "Intel AVX10.1 and Intel AMX with bfloat16, float16 and 8-bit integer support",
    "AVX10_1_512_AMX": "Intel AVX10.1 and Intel AMX with bfloat16 and 8-bit integer support",
    "AVX512_CORE_BF16": "Intel AVX-512 with Intel DL Boost and bfloat16 support",
    "AVX512_CORE_VNNI": "Intel AVX-512 with Intel DL Boost",
    "AVX512_CORE": "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
    "AVX2_VNNI": "Intel AVX2 with Intel DL Boost",
    "AVX2": "Intel AVX2",
    "AVX": "Intel AVX",
    "SSE41": "Intel SSE4.1",
}
ASKED = """
import torch
from segment.instruction_set import onednn_isa
torch.nn.functional.conv2d(torch.ones(1, 32, 32, 32), torch.ones(32, 32, 3, 3))
print("ours:" + onednn_isa())
"""


@pytest.fixture
def processor(monkeypatch):
    """Let torch find a processor that has what one of oneDNN's names takes."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)

    def has(name: str, *more: str) -> None:
        every = frozenset().union(*FEATURES.values())
        found = {feature: feature in FEATURES[name] or feature in more for feature in every}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**found, "cpu_name": "x", "l2_cache_size": 1})

    return has


@pytest.mark.parametrize("name", FEATURES)
def test_instruction_set_without_a_cap_is_that_of_the_processor(processor, name):
    processor(name)
    assert onednn_isa() == name
    assert bf16_in_hardware() == ("BF16" in name or "AVX10" in name)
    assert bf16_is_faster() == ("BF16" in name or "AMX" in name)
    assert precision("auto", "cpu") == ("bf16-mixed" if bf16_is_faster() else "32-true")


@pytest.mark.parametrize(
    ("cap", "used"),
    [
        *((name, name) for name in FEATURES if name not in ("AVX2_VNNI_2", "AVX10_2", "AVX10_2_AMX_2")),
        *((name, ALIASES[name]) for name in ALIASES if "AVX512" in name),
        *((name.lower(), ALIASES[name]) for name in ALIASES if "AVX512" in name),
        ("AVX2_VNNI_2", "AVX2_VNNI"),  # the next below that it has
        ("AVX10_2", "AVX10_1_512"),
        ("AVX10_2_512_AMX_2", "AVX10_1_512_AMX_FP16"),
        ("avx512_core", "AVX512_CORE"),
        ("DEFAULT", "AVX10_1_512_AMX_FP16"),
        ("ALL", "AVX10_1_512_AMX_FP16"),
        ("AVX512", "AVX10_1_512_AMX_FP16"),  # no name of oneDNN's: ignored
        (" AVX2", "AVX10_1_512_AMX_FP16"),
        ("", "AVX10_1_512_AMX_FP16"),
    ],
)
def test_environment_variable_caps_the_instruction_set(processor, monkeypatch, cap, used):
    processor("AVX10_1_512_AMX_FP16")
    for variable in ("DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(variable, cap)
        assert onednn_isa() == used
        monkeypatch.delenv(variable)


def test_the_new_name_of_the_variable_wins(processor, monkeypatch):
    processor("AVX512_CORE_BF16")
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    assert onednn_isa() == "AVX512_CORE"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "nothing of the kind")
    assert onednn_isa() == "AVX512_CORE_BF16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "")  # as if it were not there
    assert onednn_isa() == "AVX2"


def test_cap_does_not_exceed_the_processor(processor, monkeypatch):
    processor("AVX2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX")
    assert onednn_isa() == "AVX2"
    assert not bf16_in_hardware()
    assert not bf16_is_faster()


@pytest.mark.parametrize(
    ("cap", "fast"),
    [
        ("AVX2", False),
        ("avx512_core_vnni", False),
        ("AVX512_CORE_BF16", True),
        ("AVX512_CORE_FP16", False),
        ("ALL", True),
    ],
)
def test_precision_auto_follows_the_cap(processor, monkeypatch, cap, fast):
    processor("AVX10_1_512_AMX")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert bf16_is_faster() == fast
    assert precision("auto", "cpu") == ("bf16-mixed" if fast else "32-true")


def test_more_features_than_a_name_takes_do_not_hide_it(processor):
    processor("AVX512_CORE_BF16", "amx_tile", "avx_vnni")  # a hypervisor that masks fp16
    assert onednn_isa() == "AVX512_CORE_BF16"


def test_where_there_is_no_onednn_on_x86(processor, monkeypatch):
    processor("AVX512_CORE_BF16")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert onednn_isa() == "none"
    assert not bf16_in_hardware()
    assert not bf16_is_faster()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert onednn_isa() == "none"
    assert not bf16_in_hardware()
    assert not bf16_is_faster()


@pytest.mark.parametrize(
    ("supported", "used"),
    [
        ((), "SSE41"),
        (("avx2",), "AVX2"),
        (("avx2", "avx512"), "AVX512_CORE"),
        (("avx2", "avx512", "vnni"), "AVX512_CORE_VNNI"),
        (("avx2", "avx512", "vnni", "avx512_bf16"), "AVX512_CORE_BF16"),
        (("avx2", "avx512", "vnni", "avx512_bf16", "amx_tile"), "AVX10_1_512_AMX"),
    ],
)
def test_older_torch_reports_less(processor, monkeypatch, supported, used):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    for feature in ("avx2", "avx512", "vnni", "avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{feature}_supported", lambda feature=feature: feature in supported)
    assert onednn_isa() == used


@pytest.mark.skipif(instruction_set.onednn_isa() not in IN_WORDS, reason="oneDNN's words for it are not known here")
@pytest.mark.parametrize("cap", ["", "avx", "AVX512_CORE"])
def test_instruction_set_equals_that_reported_by_onednn(cap):
    environment = {**os.environ, "ONEDNN_VERBOSE": "1", "ONEDNN_MAX_CPU_ISA": cap, "DNNL_MAX_CPU_ISA": ""}
    said = subprocess.run([sys.executable, "-c", ASKED], env=environment, capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    theirs = next(line.split("cpu,isa:")[1] for line in lines if "cpu,isa:" in line)
    assert theirs == IN_WORDS[lines[-1].removeprefix("ours:")]


def test_torch_is_imported_lazily():
    code = "import sys, segment.instruction_set, segment.provenance; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("accelerator", "cuda", "native_bf16", "metal", "expected"),
    [
        ("gpu", True, True, False, "bf16-mixed"),  # A100, H100
        ("gpu", True, False, False, "16-mixed"),  # V100, T4: is_bf16_supported() alone says that they can
        ("auto", True, False, False, "16-mixed"),
        ("gpu", False, False, True, "32-true"),
        ("auto", False, False, True, "32-true"),
        ("mps", False, False, True, "32-true"),
        ("auto", False, False, False, "bf16-mixed"),  # the processor
    ],
)
def test_precision_auto_on_gpus(processor, monkeypatch, accelerator, cuda, native_bf16, metal, expected):
    processor("AVX10_1_512_AMX")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native_bf16
    )
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: metal)
    assert precision("auto", accelerator) == expected
