"""What a net answers to the golden frame of `runtime.canary`, for an export's metadata."""

from __future__ import annotations

import torch

from allfocus.export import as_faces, samples
from allfocus.runtime import canary
from allfocus.runtime.canary import Canary
from allfocus.runtime.spec import Graph
from allfocus.train.models.base import Net


def answers(net: Net, graph: Graph) -> str:
    """Of the float32 `net`, in eval mode, in the face of `graph`, as text."""
    size = canary.size_for(graph, samples.multiple(net, graph))
    arrays = canary.draw(graph, size, net.context)
    with torch.inference_mode():
        outputs = net.run(graph.phase, *as_faces.seen(arrays, graph).values())
    tensors = dict(zip(graph.signature.outputs, outputs, strict=True))
    found = as_faces.answered(samples.cut(tensors, graph), arrays, graph)
    return Canary(net.context, canary.sampled(found, graph)).to_text()
