"""What the tests of the TensorRT plugins share: shapes, their descriptions, and data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from plugin_host import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    HWC,
    HWC8,
    LINEAR,
    Field,
    Library,
    Plugin,
    Tensor,
)

from allfocus.kernels import reference

TYPES = {FLOAT32: torch.float32, FLOAT16: torch.float16, BFLOAT16: torch.bfloat16}
ROUNDING = {FLOAT32: 1e-5, FLOAT16: 2e-3, BFLOAT16: 2e-2}  # relative to the largest value
ISOTROPIC = ((2, 3, 5, 7), (2, 9, 5, 7), (2, 4, 5, 7))  # m = 4
SFT = {  # the operation's forms: features, gamma, (gamma_s,) beta
    "plain": ((2, 8, 5, 6), (2, 8, 5, 6), (2, 8, 5, 6)),
    "decomposed": ((2, 8, 5, 6), (2, 8, 1, 1), (2, 1, 5, 6), (2, 8, 5, 6)),
    "channels": ((1, 16, 3, 5), (1, 16, 1, 1), (1, 16, 1, 1)),
}


def made(library: Library, name: str, *fields: Field, phase: int = 0) -> Plugin:
    plugin = library.create(name, *fields, phase=phase)
    assert plugin is not None, library.log()
    return plugin


def described(shapes: Sequence[Sequence[int]], kind: int, layout: int = LINEAR) -> list[Tensor]:
    """Descriptions of the inputs and the output; a map of one channel is linear."""
    layouts = [LINEAR if s[1] == 1 and s[2] > 1 else layout for s in shapes]
    every = zip((*shapes, shapes[0]), (*layouts, layout), strict=True)
    return [Tensor.of(shape, kind, its) for shape, its in every]


def values(shapes: Sequence[Sequence[int]], kind: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(*shape, generator=generator).to(TYPES[kind]) for shape in shapes]


def run(plugin: Plugin, tensors: list[Tensor], inputs: list[torch.Tensor]) -> torch.Tensor:
    """What the plugin answers, its tensors laid out in memory as described."""
    memory = {
        LINEAR: torch.contiguous_format,
        HWC: torch.channels_last,
        HWC8: torch.channels_last,
    }
    given = [
        x.contiguous(memory_format=memory[tensor.format])
        for x, tensor in zip(inputs, tensors, strict=False)
    ]
    out = torch.full_like(given[0], torch.nan)
    assert plugin.enqueue(tensors, [x.data_ptr() for x in given], out.data_ptr()) == 0
    return out


def assert_close(out: torch.Tensor, expected: torch.Tensor, kind: int) -> None:
    error = (out.double() - expected.double()).abs().max() / expected.double().abs().max()
    assert error <= ROUNDING[kind]


def sft_reference(inputs: list[torch.Tensor], factor: float) -> torch.Tensor:
    features, gamma, *gamma_s, beta = inputs
    return reference.sft_modulate(features, gamma, gamma_s[0] if gamma_s else None, beta, factor)
