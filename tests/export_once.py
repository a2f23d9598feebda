"""torch's exporter answers a second time from a file: it takes most of the time of the tests.

Only torch's own part is kept, for the same net with the same weights and the same inputs; all that
comes after it runs each time. The processes of one run share what they keep.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import torch

from allfocus.runtime.files import publish
from allfocus.runtime.lock import locked

TABLE = "custom_translation_table"  # the same in every call
Exporter = Callable[..., Any]


class Once:
    """Stands for torch.onnx.export, with what it gave in `folder`."""

    def __init__(self, exporter: Exporter, folder: Path) -> None:
        self._exporter, self._folder = exporter, folder

    def __call__(
        self, net: torch.nn.Module, args: Sequence[torch.Tensor], **options: Any
    ) -> SimpleNamespace:
        """An object with `model_proto`, which is all that is used of what torch gives."""
        try:
            state = _all_of(net)
        except (pickle.PicklingError, AttributeError, TypeError):  # of a class within a function
            return SimpleNamespace(model_proto=self._made(net, args, options))
        kinds = [(x.dtype, x.shape) for x in args]
        said = {name: value for name, value in options.items() if name != TABLE}
        key = hashlib.sha256(state + repr((kinds, said)).encode()).hexdigest()
        path = self._folder / f"{key}.onnx"
        with locked(path.with_suffix(".lock"), lambda: None):
            if not path.exists():
                with publish(path) as draft:  # a process may be killed while it writes
                    onnx.save(self._made(net, args, options), str(draft))
        return SimpleNamespace(model_proto=onnx.load(str(path)))

    def _made(
        self, net: torch.nn.Module, args: Sequence[torch.Tensor], options: dict[str, Any]
    ) -> onnx.ModelProto:
        program = self._exporter(net, tuple(args), **options)
        made: onnx.ModelProto = program.model_proto
        return made


class _Pickler(pickle.Pickler):
    """Equal bytes for equal nets: torch writes where in memory the numbers of a tensor lie."""

    def reducer_override(self, thing: Any) -> Any:
        if not isinstance(thing, torch.Tensor):
            return NotImplemented
        numbers = thing.detach().flatten().view(torch.uint8).numpy().tobytes()
        return tuple, ((str(thing.dtype), thing.shape, thing.stride(), numbers),)


def _all_of(net: torch.nn.Module) -> bytes:
    """Every class, number and setting that it is made of."""
    file = io.BytesIO()
    _Pickler(file).dump(net)
    return file.getvalue()
