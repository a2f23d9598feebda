"""Inputs to try spatial feature transforms on, and how far a kernel may be from float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from allfocus.kernels import reference

# Half of the last digit kept, relative; the smallest number's half, absolute.
ROUNDING = {
    torch.float32: (2.0**-24, 2.0**-150),
    torch.float16: (2.0**-11, 2.0**-25),
    torch.bfloat16: (2.0**-8, 2.0**-134),
}
FLOAT32 = 2e-6  # of float32 arithmetic and sums, relative to the sum of what is added, absolute

Inputs = tuple[Tensor, Tensor, Tensor | None, Tensor]  # features, gamma, gamma_s, beta
Wanted = tuple[bool, bool, bool, bool]


@dataclass(frozen=True)
class Case:
    """One call."""

    n: int = 1
    channels: int = 8
    height: int = 3
    width: int = 8
    channels_last: bool = False
    gamma_full: bool = False
    spatial: bool = True
    beta_full: bool = True
    slope: float = 1.0
    dtype: torch.dtype = torch.float32
    offset: int = 0  # elements from an address that vectors could be read at
    seed: int = 0

    @property
    def full(self) -> tuple[int, int, int, int]:
        return (self.n, self.channels, self.height, self.width)

    def inputs(self) -> Inputs:
        """features, gamma, gamma_s and beta, drawn at random."""
        small = (self.n, self.channels, 1, 1)
        shapes = [self.full, self.full if self.gamma_full else small]
        shapes += [(self.n, 1, self.height, self.width)] if self.spatial else []
        shapes += [self.full if self.beta_full else small]
        generator = torch.Generator().manual_seed(self.seed)
        drawn = [self.place(torch.randn(shape, generator=generator)) for shape in shapes]
        return drawn[0], drawn[1], drawn[2] if self.spatial else None, drawn[-1]

    def grad(self) -> Tensor:
        """The gradient of the result."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        return self.place(torch.randn(self.full, generator=generator))

    def place(self, values: Tensor) -> Tensor:
        """The values with this case's dtype, layout and offset in memory."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        dense = values.to(self.dtype).contiguous(memory_format=layout)
        memory = torch.empty(dense.numel() + self.offset, dtype=self.dtype)
        placed = memory[self.offset :].as_strided(dense.shape, dense.stride(), self.offset)
        return placed.copy_(dense)


def moved(device: str, tensor: Tensor) -> Tensor:
    """The tensor on a device, as far from an address for vectors as it was."""
    if device == "cpu":
        return tensor
    offset = tensor.storage_offset()
    memory = torch.empty(tensor.numel() + offset, dtype=tensor.dtype, device=device)
    return memory.as_strided(tensor.shape, tensor.stride(), offset).copy_(tensor)


def each(change: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The inputs, each changed."""
    features, gamma, gamma_s, beta = inputs
    spatial = None if gamma_s is None else change(gamma_s)
    return change(features), change(gamma), spatial, change(beta)


def moved_all(device: str, inputs: Inputs) -> Inputs:
    """The inputs on a device."""
    return each(lambda tensor: moved(device, tensor), inputs)


def forward(case: Case, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The reference's result in float64, and how far another may be."""
    wide = each(Tensor.double, inputs)
    wanted = reference.sft_modulate(*wide, case.slope)
    size = reference.sft_modulate(*each(Tensor.abs, wide), 1)
    return wanted, _tolerance(case, wanted, max(1, abs(case.slope)) * size)


def backward(case: Case, inputs: Inputs, grad: Tensor) -> list[tuple[Tensor, Tensor] | None]:
    """The same for the gradients of the inputs; None for a gamma_s that is not there."""
    wanted = _gradients(inputs, grad, case.slope)
    sizes = _gradients(each(Tensor.abs, inputs), grad.abs(), 1)
    steepest = max(1, abs(case.slope))
    return [
        None if w is None or s is None else (w, _tolerance(case, w, steepest * s))
        for w, s in zip(wanted, sizes, strict=True)
    ]


def _gradients(inputs: Inputs, grad: Tensor, slope: float) -> list[Tensor | None]:
    leaves = each(lambda tensor: tensor.double().requires_grad_(), inputs)
    asked = [leaf for leaf in leaves if leaf is not None]
    out = reference.sft_modulate(*leaves, slope)
    found = iter(torch.autograd.grad(out, asked, grad.double()))
    return [leaf if leaf is None else next(found) for leaf in leaves]


def _tolerance(case: Case, wanted: Tensor, size: Tensor) -> Tensor:
    relative, absolute = ROUNDING[case.dtype]
    return 1.01 * relative * wanted.abs() + FLOAT32 * size + absolute


def shapes_around(width: int) -> list[Case]:
    """Sizes about those where tiles, warps and packs of `width` elements end."""
    base = Case()
    many = [1, width - 1, width, 31 * width, 32 * width, 33 * width, 257 * width]
    return [
        *(replace(base, channels=3, height=1, width=size) for size in many if size),
        *(replace(base, channels=size, height=3, width=1) for size in (1, 31, 33, 65, 129)),
        replace(base, channels=129, height=5, width=13),
        replace(base, n=3, channels=width, height=9, width=2 * width),
    ]
