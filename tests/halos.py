"""How far a net sees, measured: from an output pixel to the farthest input pixel it depends on.

Gradients tell it, so that a dependence of 1e-90 counts. They are taken where nothing cancels and
nothing is cut off: at positive pictures and weights, max-pooling replaced by the mean (it sees the
same pixels, but its gradient shows one of them), and a sigmoid left out (it would flatten them).
Pictures and weights are drawn: at equal ones a softmax does not move when all its inputs do, and a
blur's kernel, which sums up to 1, does not show in a flat picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from allfocus.runtime.catalogue import Signatures
from allfocus.runtime.signature import KINDS, Phase
from allfocus.train.models.base import Net

Named = dict[str, Tensor]


def measured(net: Net, signatures: Signatures) -> dict[Phase, int]:
    """The halo of each phase of `net`, in pixels; `net` is changed. Slow for wide nets."""
    linear = _linear(net)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # work is a thousand small steps, in which threads wait for each other
    try:
        return {
            phase: max(_reach(linear, signatures, phase, turned) for turned in (False, True))
            for phase in net.halos
        }
    finally:
        torch.set_num_threads(threads)


def _middle(net: Net) -> int:
    return (net.halo // net.multiple + 2) * net.multiple


def _linear(net: Net) -> Net:
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Sigmoid):
            net.set_submodule(name, nn.Identity())
        if isinstance(module, nn.MaxPool2d):
            net.set_submodule(name, nn.AvgPool2d(module.kernel_size, module.stride))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in net.named_parameters():
        vector = 1.0 if name.endswith("weight") else 0.0  # of a normalisation, or a bias
        scale = 1 / parameter[0].numel() if parameter.dim() > 1 else vector
        with torch.no_grad():
            parameter.copy_(scale * _drawn(parameter.shape, generator))
    return net.double().eval()


def _drawn(shape: torch.Size | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Values from 0.5 to 1.5."""
    return 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)


def _reach(net: Net, signatures: Signatures, phase: Phase, turned: bool) -> int:
    """From any row of any output, the farthest row of any input; `turned`: columns for rows.

    The rows tried are those of one `multiple`: the others see as far.
    """
    shape = (2 * _middle(net) + net.multiple, net.multiple)
    given = _inputs(signatures, phase, shape[::-1] if turned else shape)
    tried = range(_middle(net), _middle(net) + net.multiple)
    farthest = 0
    for name, output in _outputs(net, signatures, phase, given).items():
        if KINDS[name] != "vector":
            rows = output.mT if turned else output
            for part in (tried[:1], tried[-1:], tried[1:-1]):
                farthest = _farther(rows, given, part, turned, farthest)
    return farthest


def _farther(output: Tensor, given: Named, rows: range, turned: bool, than: int) -> int:
    """`than`, or how far those of `rows` see that see farther.

    All of them at once tell how far each may see at most; where that is more, its halves are tried.
    """
    if not rows:
        return than
    seen = _seen(output[:, :, rows.start : rows.stop].sum(), given, turned)
    bound = max(rows[-1] - seen.start, seen.stop - 1 - rows[0]) if seen else 0
    if bound <= than or len(rows) == 1:
        return max(bound, than)
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        than = _farther(output, given, half, turned, than)
    return than


def _seen(total: Tensor, given: Named, turned: bool) -> range:
    """From the first to the last row of `given` that `total` depends on."""
    inputs = list(given.values())
    found: list[int] = []
    for gradient in torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True):
        if gradient is not None:
            rows = gradient.mT if turned else gradient
            found += rows.abs().amax((0, 1, 3)).nonzero()[:, 0].tolist()
    return range(min(found), max(found) + 1) if found else range(0)


def _inputs(signatures: Signatures, phase: Phase, shape: tuple[int, ...]) -> Named:
    generator = torch.Generator().manual_seed(1)
    shapes = {
        name: (1, 3 if KINDS[name] == "picture" else 1, *shape)
        for name in signatures[phase].inputs
        if KINDS[name] != "vector"
    }
    return {name: (_drawn(s, generator) / 2).requires_grad_() for name, s in shapes.items()}


def _outputs(net: Net, signatures: Signatures, phase: Phase, given: Named) -> Named:
    """What `phase` gives, the context of the picture being a constant."""
    signature = signatures[phase]
    if net.context and phase == "whole":
        first = _outputs(net, signatures, "estimate", given)
        return {**first, **_outputs(net, signatures, "restore", given | first)}
    constant = {"context": torch.ones(1, net.context, 1, 1, dtype=torch.float64)}
    inputs = [(given | constant)[name] for name in signature.inputs]
    return dict(zip(signature.outputs, net.run(phase, *inputs), strict=True))
