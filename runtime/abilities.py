"""What this CPU's instructions make fast, in the words of Linux: see `host.describe_cpu`."""

from __future__ import annotations

from allfocus.runtime.host import describe_cpu

# What products of a type need to be faster than those of float32.
_FOR: dict[str, tuple[str, ...]] = {
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"),
    "bf16": ("avx512_bf16", "amx_bf16"),
}
# x86 before VNNI adds pairs of products in 16 bits, which overflow: held to AVX2, didanet-lite in
# OpenVINO gives a map that is off by 0.05 of its range, and is refused by its golden frame.
NO_VNNI = "no VNNI: int8 runs, but slowly, and its sums may overflow; it is not taken by itself"
_NAMES = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "AVX-512 VNNI": ("avx512_vnni",),
    "AVX VNNI": ("avx_vnni",),
    "AVX-512 BF16": ("avx512_bf16",),
    "AMX": ("amx_tile",),
}


def described() -> str:
    """The abilities that matter here: AVX2, AVX-512 VNNI; "not told" where the OS is silent."""
    features = describe_cpu()[1]
    if not features:
        return "not told by this system"
    found = [name for name, any_of in _NAMES.items() if set(any_of) & set(features)]
    return ", ".join(found) or "none of those that matter here"


def lacking() -> tuple[str, ...]:
    """What this CPU is known to lack, and what follows from it, in sentences."""
    lines = []
    if lacks("int8"):
        lines.append(NO_VNNI)
    if lacks("bf16"):
        lines.append("no AVX-512 BF16 and no AMX: bf16 does not run; fp32 and int8 do")
    return tuple(lines)


def lacks(precision: str) -> bool:
    """Whether the CPU is known to have no instructions for a precision."""
    features = describe_cpu()[1]
    needed = _FOR.get(precision, ())
    return bool(features) and bool(needed) and not set(needed) & set(features)
