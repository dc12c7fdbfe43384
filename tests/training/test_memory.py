import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from segment.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):
    torch.zeros(16 << 20).add_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_freed_memory_is_not_faulted_in_again():
    def faults(choice: str) -> int:
        return int(subprocess.run([sys.executable, "-c", PROGRAM, choice], capture_output=True, check=True).stdout)

    # 64 MB, twenty times: allocated anew each time, or once. A page has at least 4 kB here.
    before, after = faults("leave"), faults("keep")
    assert after < before - 10 * (64 << 20) // 65536
