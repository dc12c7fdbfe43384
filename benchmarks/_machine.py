"""What figures depend on, printed beside them by every benchmark."""

from __future__ import annotations

from segment.provenance import hardware


def describe(precision: str) -> None:
    """Print the processor, the instruction sets of torch and of oneDNN, and the precision of what is measured."""
    found = hardware()
    print(
        f"{found['processor']}, {found['cores']} cores, {found['capability']} (oneDNN: {found['onednn_isa']}), "
        f"precision {precision}",
        flush=True,
    )
