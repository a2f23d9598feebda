"""What a net answers to the golden frame of `runtime.canary`, for an export's metadata."""

from __future__ import annotations

from dataclasses import replace

import torch

from allfocus.export import samples
from allfocus.runtime import canary
from allfocus.runtime.canary import Canary
from allfocus.runtime.spec import Graph
from allfocus.train.models.base import Net


def answers(net: Net, graph: Graph) -> str:
    """Of the float32 `net`, in eval mode, in the face of `graph`, as text."""
    size = canary.size_for(graph, net.multiple)
    plain = replace(graph, io="float", precision="fp32", color="rgb")
    given = [torch.from_numpy(a) for a in canary.draw(plain, size, net.context).values()]
    with torch.inference_mode():
        outputs = net.run(graph.phase, *given)
    tensors = dict(zip(graph.signature.outputs, outputs, strict=True))
    found = samples.in_face(samples.cut(tensors, graph), graph)
    return Canary(net.context, canary.sampled(found, graph)).to_text()
