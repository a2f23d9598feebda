"""What a CPU lacks, told from flags that are made up."""

from __future__ import annotations

import pytest

from allfocus.runtime import abilities


@pytest.mark.parametrize(
    ("features", "described", "lacking"),
    [
        ((), "not told by this system", set()),
        (("avx2", "fma"), "AVX2", {"int8", "bf16"}),
        (("avx2", "avx512f", "avx512_vnni"), "AVX2, AVX-512, AVX-512 VNNI", {"bf16"}),
        (("avx2", "avx_vnni", "avx512_bf16"), "AVX2, AVX VNNI, AVX-512 BF16", set()),
        (("amx_tile", "amx_int8", "amx_bf16"), "AMX", set()),
        (("asimd", "asimddp"), "none of those that matter here", {"bf16"}),
    ],
)
def test_abilities(
    monkeypatch: pytest.MonkeyPatch,
    features: tuple[str, ...],
    described: str,
    lacking: set[str],
) -> None:
    monkeypatch.setattr(abilities, "describe_cpu", lambda: ("CPU", features))
    assert abilities.described() == described
    assert {each for each in ("fp32", "int8", "bf16") if abilities.lacks(each)} == lacking
    told = " ".join(abilities.lacking())
    assert (abilities.NO_VNNI in told) == ("int8" in lacking)
    assert ("bf16 does not run" in told) == ("bf16" in lacking)
