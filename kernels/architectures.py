"""For which GPUs a compiled library holds code; it says so itself, as `allfocus_architectures`."""

from __future__ import annotations

# Jetson's beside cards of the same major version, each with what it is called since; NVIDIA's
# rules for integrated GPUs as PyTorch has them in `torch.cuda.DEVICE_REQUIREMENT`.
_OWN = {87: 87, 101: 110}


def listed(text: str) -> tuple[int, ...]:
    """Read "86,89"; 86 is compute capability 8.6."""
    return tuple(int(part) for part in text.split(",") if part)


def covers(architectures: tuple[int, ...], capability: int) -> bool:
    """Whether a library runs on a GPU of this compute capability (86 for 8.6).

    Machine code runs on its own major version from its own minor one on, but never on a Jetson
    where it is for cards, nor the other way round. Each build also holds the PTX of its newest
    architecture, from which the driver compiles for any later GPU.
    """
    found = any(_runs(code, capability) for code in architectures)
    return found or (bool(architectures) and max(architectures) <= capability)


def _runs(code: int, capability: int) -> bool:
    if code in _OWN or capability in _OWN:
        return capability in (code, _OWN.get(code))
    return code // 10 == capability // 10 and code <= capability


def names(architectures: tuple[int, ...]) -> str:
    """In words: "sm_86, sm_89"."""
    return ", ".join(f"sm_{a}" for a in architectures) or "no GPU"
