"""Calibration: a float32 graph runs on crops, and each layer's tensors leave their ranges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from allfocus.export.calibration import Crops
from allfocus.export.histogram import Histogram, Method
from allfocus.export.quant_layers import find_layers
from allfocus.export.ranges import Around, Ranges
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.spec import Spec

if TYPE_CHECKING:
    from onnx import ModelProto

_TOGETHER = 64  # tensors that are looked at in one run: more would take gigabytes


def observe(model: ModelProto, spec: Spec, crops: Crops, method: Method) -> Ranges:
    """The ranges around every convolution of `model`, a float face in float32, on the crops."""
    layers = find_layers(model)
    names = sorted({name for layer in layers for name in (layer.input, layer.output)})
    groups = [names[i : i + _TOGETHER] for i in range(0, len(names), _TOGETHER)]
    seen: dict[str, Histogram] = {}
    with tqdm(total=len(groups) * len(crops.arrays), desc="calibrating", disable=None) as bar:
        for group in groups:
            for values in _runs(model, group, crops.arrays):
                for name, array in zip(group, values, strict=True):
                    seen.setdefault(name, Histogram()).add(array)
                bar.update()
    found = {name: histogram.range(method) for name, histogram in seen.items()}
    picture = {each.name for each in model.graph.input}
    exact = {name: (0.0, 1.0) for name in found if name in picture}  # 8 bits as cameras give them
    ends = {**found, **exact}
    return Ranges(
        model=spec.name,
        weights_sha256=spec.weights_sha256,
        method=method,
        source=crops.source,
        crops=len(crops.arrays),
        side=crops.side,
        layers={each.name: Around(ends[each.input], ends[each.output]) for each in layers},
    )


def _runs(model: ModelProto, names: Sequence[str], pictures: Sequence[Any]) -> Iterator[list[Any]]:
    """The tensors `names` of every picture in turn."""
    import onnx
    import onnxruntime as ort

    given = [each.name for each in model.graph.input]
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    there = {each.name for each in model.graph.output}
    for name in (name for name in names if name not in there and name not in given):
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        tapped.graph.output.append(value)
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    session = ort.InferenceSession(
        tapped.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted = [name for name in names if name not in given]
    for picture in pictures:
        inputs = dict.fromkeys(given, np.ascontiguousarray(picture))
        found = dict(zip(wanted, session.run(wanted, inputs), strict=True))
        yield [inputs[name] if name in inputs else found[name] for name in names]
