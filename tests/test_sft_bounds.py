"""The SFT kernels touch nothing behind their tensors: each ends where forbidden memory begins."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import sft_cases
import torch
from emulated import emulated_library
from sft_cases import Case, each
from torch import Tensor

from allfocus.kernels.launchers import Kernels

PAGE = mmap.PAGESIZE
NOTHING_ALLOWED = 0
libc = ctypes.CDLL(None, use_errno=True)


def guarded(tensor: Tensor) -> Tensor:
    """A copy of a dense tensor that ends with a page, before one that must not be touched."""
    size = tensor.numel() * tensor.itemsize
    room = -(-size // PAGE) * PAGE
    region = mmap.mmap(-1, room + PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(region))
    forbidden = libc.mprotect(ctypes.c_void_p(address + room), PAGE, NOTHING_ALLOWED)
    assert forbidden == 0, ctypes.get_errno()
    memory = torch.frombuffer(region, dtype=tensor.dtype, count=tensor.numel(), offset=room - size)
    return memory.as_strided(tensor.shape, tensor.stride()).copy_(tensor)


def cases() -> list[Case]:
    sizes = [*sft_cases.shapes_around(4), Case(channels=70, height=9, width=12)]
    # Half of the combinations, in which every three choices meet in all ways.
    forms = [form for form in product((False, True), repeat=4) if sum(form) % 2 == 0]
    return [
        replace(
            size, channels_last=last, gamma_full=gamma, spatial=spatial, beta_full=beta, slope=0
        )
        for size, (last, gamma, spatial, beta) in product(sizes, forms)
    ]


def run_all(library: Path) -> None:
    kernels = Kernels(library)
    for case in cases():
        inputs, grad = each(guarded, case.inputs()), guarded(case.grad())
        kernels.sft_modulate(*inputs, case.slope)
        wanted = (True, True, case.spatial, True)
        kernels.sft_modulate_backward(grad, *inputs, case.slope, wanted)


def test_nothing_behind_a_tensor_is_read() -> None:
    command = [sys.executable, __file__, str(emulated_library())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr}"
    assert done.stdout.split() == ["cases:", str(len(cases()))]


def test_a_read_behind_a_tensor_would_end_the_program() -> None:
    code = "import ctypes, torch, test_sft_bounds as t; x = t.guarded(torch.zeros(3)); "
    for beyond in (0, 4):
        reading = f"ctypes.c_float.from_address(x.data_ptr() + 8 + {beyond}).value"
        command = [sys.executable, "-c", code + reading]
        done = subprocess.run(command, cwd=Path(__file__).parent, timeout=60)
        assert (done.returncode == 0) == (beyond == 0)


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))
    print("cases:", len(cases()))
