"""Which layers lose most in float16, and which of them must stay float32 to reach a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from tqdm import tqdm

from allfocus.export import samples
from allfocus.export.deviation import measure
from allfocus.export.half import run_in_half
from allfocus.export.lower import layers
from allfocus.runtime.errors import ParityError
from allfocus.runtime.spec import Graph, Size
from allfocus.train.models.base import Net

SHOWN = 5  # layers that an error names
_SMALL = Size(96, 64)  # pixels: what single layers are tried on


class Trial:
    """A phase of `net` on the photo at `size`, in float32 once and in the graph's half precision as
    often as asked."""

    def __init__(self, net: Net, graph: Graph, size: Size) -> None:
        self._net, self._phase = net, graph.phase
        self._output = graph.signature.outputs[0]
        self._precision = graph.precision
        padded = size.padded(net.multiple_of(graph.phase))
        self._given = list(samples.inputs(net, graph.signature, padded).values())
        with torch.inference_mode():
            self._expected = net.run(self._phase, *self._given)[0].numpy()

    def psnr(self, kept: Sequence[str]) -> float:
        """PSNR in dB of the first output in float16, but for the layers `kept`.

        Negative infinity where a value is not finite.
        """
        found = run_in_half(self._net, self._phase, self._given, kept, self._precision)[0].numpy()
        try:
            return measure(self._output, found, self._expected, 1.0).psnr_db
        except ParityError:
            return -math.inf


def worst(net: Net, graph: Graph, kept: Sequence[str] = ()) -> list[tuple[str, float]]:
    """The layers that lose most where they alone compute in float16, the worst first, in dB."""
    return _ranked(net, graph, kept)[:SHOWN]


def search(net: Net, graph: Graph, fp16_db: float, size: Size) -> tuple[str, ...]:
    """The fewest of the worst layers that must stay float32 for `fp16_db`; none where all may go.

    Raises ParityError where the limit is not reached with any number of them.
    """
    trial = Trial(net, graph, size)
    if trial.psnr(()) >= fp16_db:
        return ()
    ranked = [name for name, _ in _ranked(net, graph, ())]
    low, high = 0, len(ranked)  # not enough, enough
    found = trial.psnr(ranked)
    if not found >= fp16_db:
        raise ParityError(
            f"with all layers in float32 the net's other operations in float16 are at {found:.1f} "
            f"dB, expected at least {fp16_db:g}; use --precision fp32"
        )
    while high - low > 1:
        middle = (low + high) // 2
        if trial.psnr(ranked[:middle]) >= fp16_db:
            high = middle
        else:
            low = middle
    return tuple(ranked[:high])


def _ranked(net: Net, graph: Graph, kept: Sequence[str]) -> list[tuple[str, float]]:
    """Every layer but `kept`, with the PSNR in dB where it alone computes in float16."""
    names, trial = list(layers(net)), Trial(net, graph, _SMALL)
    alone = []
    tried = [name for name in names if name not in kept]
    for name in tqdm(tried, unit="layer", disable=None, leave=False):
        alone.append((name, trial.psnr([other for other in names if other != name])))
    return sorted(alone, key=lambda pair: pair[1])
