"""For which GPUs a compiled library holds code; it says so itself, as `allfocus_architectures`."""

from __future__ import annotations


def listed(text: str) -> tuple[int, ...]:
    """Read "86,89"; 86 is compute capability 8.6."""
    return tuple(int(part) for part in text.split(",") if part)


def covers(architectures: tuple[int, ...], capability: int) -> bool:
    """Whether a library runs on a GPU of this compute capability (86 for 8.6).

    Machine code runs on its own major version from its own minor one on. Each build also holds the
    PTX of its newest architecture, from which the driver compiles for any later GPU.
    """
    same = any(a // 10 == capability // 10 and a <= capability for a in architectures)
    return same or (bool(architectures) and max(architectures) <= capability)


def names(architectures: tuple[int, ...]) -> str:
    """In words: "sm_86, sm_89"."""
    return ", ".join(f"sm_{a}" for a in architectures) or "no GPU"
