"""Bringing a net to 8 bits: ranges, then the choice of layers, then what that loses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allfocus.export import ranges as ranges_file
from allfocus.export.quantize import Dialect
from allfocus.export.ranges import Ranges
from allfocus.export.reduction import Reduction
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.errors import ArtefactError, ParityError, UsageError
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Graph, Precision, Spec

if TYPE_CHECKING:
    from onnx import ModelProto

    from allfocus.export.search import Trade
    from allfocus.train.models.base import Net

log = logging.getLogger("allfocus")

_TRIED_ON = 4  # crops that single layers are tried on


@dataclass(frozen=True, kw_only=True)
class EightBits:
    """How a graph of a net is quantised; see `quantize`."""

    ranges: Ranges
    dialect: Dialect
    kept: tuple[str, ...] = ()
    inline: bool = True  # whether weights are rounded here, or when the graph is loaded

    def applied(self, model: ModelProto, spec: Spec) -> ModelProto:
        """The graph in 8 bits."""
        from allfocus.export.quantize import quantize

        kept = self._there(model)
        return quantize(model, spec, self.ranges, self.dialect, kept, inline=self.inline)

    def _there(self, model: ModelProto) -> tuple[str, ...]:
        """Of the layers kept, those of this graph: a phase has a part of them."""
        from allfocus.export.quant_layers import find_layers

        names = {layer.name for layer in find_layers(model)}
        return tuple(name for name in self.kept if name in names)


@dataclass(frozen=True)
class Reduced:
    """What came out: how to quantise, what it loses, and in which steps that was found."""

    bits: EightBits
    trade: Trade

    def figures(self, max_loss: float) -> dict[str, float]:
        """For a manifest: dB on the evaluation set."""
        loss = self.trade.taken.loss
        return {
            "max_loss_db": max_loss,
            "loss_db": loss.loss_db,
            "evaluation_psnr_db": loss.psnr_db,
            "float32_evaluation_psnr_db": loss.original_db,
            "to_float32_psnr_db": loss.to_original_db,
        }

    def label(self, max_loss: float) -> dict[str, Any]:
        """For the graph's metadata: the figures, the layers, and where the ranges come from."""
        from allfocus.train.evaluation_set import VERSION

        ranges = self.bits.ranges
        return {
            **self.figures(max_loss),
            "evaluation_set": VERSION,
            "scenes": self.trade.taken.loss.scenes,
            "dialect": self.bits.dialect,
            "kept": list(self.bits.kept),
            "base": {"trt": "fp16", "fp8": "fp16"}.get(self.bits.dialect, "fp32"),
            "ranges_sha256": ranges.digest,
            "ranges": f"{ranges.method} of {ranges.crops} crops of {ranges.source}",
        }


class Original:
    """A net in float32, which what is made of it is compared with.

    `scenes`: how many of the evaluation set, from its start; None: all. `weights_stay` as in
    `to_onnx.export`. Raises UsageError for a net that does not make single pictures sharp.
    """

    def __init__(
        self, net: Net, spec: Spec, scenes: int | None = None, *, weights_stay: bool = False
    ) -> None:
        from allfocus.export.quality import Quality

        self.net, self.spec, self._stay = net, spec, weights_stay
        self.model = self.traced("fp32")
        self.quality = Quality(self.model, net.multiple, scenes)

    def traced(self, precision: Precision) -> ModelProto:
        """Its graph in a precision that is no 8 bits."""
        from allfocus.export import to_onnx

        graph = _graph(self.spec, precision)
        spec = to_onnx.of_graph(self.spec, self.net, graph)
        return to_onnx.export(self.net, spec, graph, weights_stay=self._stay)


def reduce(original: Original, how: Reduction, kept: tuple[str, ...] = ()) -> Reduced:
    """Find ranges and layers of the whole net; `kept`: layers that the user keeps out of it.

    Raises InputError for a folder that cannot be calibrated on, ArtefactError for ranges of another
    net, and ParityError where the limit cannot be reached, or is broken and was not to be.
    """
    from allfocus.export.calibration import crops_of
    from allfocus.export.quantize import never_in_8_bits
    from allfocus.export.search import Search

    spec = original.spec
    found = _ranges(original.model, spec, how)
    base = original.model if how.base == "fp32" else original.traced(how.base)

    def make(names: Sequence[str]) -> ModelProto:
        bits = EightBits(ranges=found, dialect=how.dialect, kept=tuple(names))
        return bits.applied(base, spec)

    work = _work(original.net, found)
    never = never_in_8_bits(base, how.dialect)
    search = Search(work, make, original.quality, how.dialect, how.max_loss, never)
    crops = crops_of(how.calibrate).arrays[:_TRIED_ON] if how.search else ()
    trade = search.run(crops) if how.search else search.once(kept)
    if not trade.holds and not how.forced:
        raise ParityError(_impossible(trade) if how.search else _too_much(trade))
    bits = EightBits(ranges=found, dialect=how.dialect, kept=trade.taken.kept)
    return Reduced(bits, trade)


def saved_ranges(spec: Spec, how: Reduction) -> Path:
    """Where ranges that were found on generated scenes are kept for the next export, by the same
    scenes and the same way to look at them."""
    from allfocus.export.cache import sources_digest

    found_by = sources_digest()[:8]
    name = f"ranges-{spec.name}-{spec.weights_sha256[:16]}-{how.method}-{found_by}.json"
    return cache_dir() / name


def packaged_ranges(model: str) -> Path:
    """Where the package carries ranges of its weights, found on photos."""
    from allfocus.runtime.artefacts import packaged_weights

    return packaged_weights(model).with_name(f"{model}-ranges.json")


def _ranges(original: ModelProto, spec: Spec, how: Reduction) -> Ranges:
    from allfocus.export.calibration import crops_of
    from allfocus.export.observe import observe

    if how.ranges is not None:
        return ranges_file.read(how.ranges)
    if how.calibrate is None:
        for path in (packaged_ranges(spec.name), saved_ranges(spec, how)):
            known = _known(path, original, spec)
            if known is not None and known.method == how.method:
                return known
    found = observe(original, spec, crops_of(how.calibrate), how.method)
    if how.calibrate is None:
        found.write(saved_ranges(spec, how))
    return found


def _known(path: Path, original: ModelProto, spec: Spec) -> Ranges | None:
    """The ranges in a file that is kept, where they are those of this graph."""
    from allfocus.export.quant_layers import find_layers

    if not path.is_file():
        return None
    try:
        found = ranges_file.read(path)
        found.check(spec, {layer.name: layer for layer in find_layers(original)})
    except ArtefactError as error:
        log.info("%s; they are found again", error)
        return None
    return found


def _graph(spec: Spec, precision: Precision) -> Graph:
    from allfocus.export.packaged import graph_of

    graph = graph_of(spec.name)
    inputs = graph.signature.inputs
    if "sharp" not in graph.signature.outputs or [KINDS[name] for name in inputs] != ["picture"]:
        raise UsageError(
            f"{spec.name} makes no single picture sharp, so nothing tells what 8 bits cost it; use "
            "--precision fp16 or fp32"
        )
    return replace(graph, precision=precision)


def _work(net: Net, found: Ranges) -> dict[str, float]:
    """Multiply-accumulates of the layers that can go to 8 bits."""
    import torch

    from allfocus.train.models.count import count_layers

    side = 16 * net.multiple
    rows = count_layers(net, torch.zeros(1, 3, side, side, device="meta"))
    work: dict[str, float] = {}
    for row in rows:
        if row.name in found.layers:
            work[row.name] = work.get(row.name, 0.0) + row.macs
    return work


def _impossible(trade: Trade) -> str:
    return (
        f"--max-loss {trade.max_loss:g}dB cannot be reached: with no layer in 8 bits the graph "
        f"loses {trade.taken.loss.loss_db:.4f} dB against float32; allow that much, take it with "
        "--accept-loss, or use --precision fp32"
    )


def _too_much(trade: Trade) -> str:
    loss = trade.taken.loss
    return (
        f"in 8 bits the net loses {loss.loss_db:.3f} dB on the evaluation set ({loss.psnr_db:.4f} "
        f"instead of {loss.original_db:.4f}), expected at most {trade.max_loss:g}; nothing was "
        "kept. --precision auto keeps the layers that hurt most out of it, --calibrate DIR finds "
        "ranges on your own pictures, --max-loss allows more, --accept-loss takes it as it is"
    )
