"""What nvcc makes of the SFT kernels: packs stay whole, for a compiler easily takes them apart."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "kernels" / "cuda"
ENTRY = re.compile(r"\.entry (\w+)\((.*?)\n}", re.DOTALL)
# In a kernel's name: element, elements in a pack, and the forms (channels last, gamma full,
# gamma_s, beta full).
NAME = re.compile(r"I(f|6__half|13__nv_bfloat16)Li(\d)ENS\d_5FormsILb[01]ELb([01])ELb[01]ELb([01])")


def kernels(source: str, folder: Path) -> list[tuple[re.Match[str], str]]:
    """Names and code of a file's kernels that move packs of several elements."""
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    ptx = folder / "kernels.ptx"
    command = [nvcc, "-std=c++17", "-O3", "-arch=sm_90", "-ptx", str(SOURCES / source)]
    done = subprocess.run([*command, "-o", str(ptx)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    entries = [(NAME.search(name), code) for name, code in ENTRY.findall(ptx.read_text())]
    return [(name, code) for name, code in entries if name and name[2] != "1"]


def test_forward_moves_16_bytes_at_once(tmp_path: Path) -> None:
    found = kernels("sft_modulate.cu", tmp_path)
    assert len(found) == 3 * 16
    for name, code in found:
        full = 1 + int(name[3]) + int(name[4])
        assert code.count("st.global") == code.count("st.global.v4") == 4, name[0]
        assert code.count("ld.global.v4") >= 4 * full, name[0]


def test_backward_moves_16_bytes_at_once(tmp_path: Path) -> None:
    found = kernels("sft_modulate_backward.cu", tmp_path)
    assert len(found) == 3 * 16 * 2
    for name, code in found:
        full = 1 + int(name[3]) + int(name[4])  # gradients; besides there are partial sums
        assert code.count("st.global.v4") >= 2 * full, name[0]
        assert not re.search(r"(ld|st)\.global\.v2|st\.global\.[ub]16", code), name[0]
