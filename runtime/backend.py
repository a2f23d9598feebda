"""What an inference engine must offer. Public methods check and count; `_hooks` do the work."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.closing import Closing
from allfocus.runtime.errors import ArtefactError, InputError, UsageError
from allfocus.runtime.layout import layout
from allfocus.runtime.memory import Allowance
from allfocus.runtime.real import whole
from allfocus.runtime.remake import larger_command
from allfocus.runtime.spec import PRECISIONS, Graph, Precision, Size, Spec, Wanted

Array = NDArray[Any]

_MOST_THREADS = 1024  # more is a slip of the hand: to start so many takes minutes


@dataclass(frozen=True)
class Options:
    """Where and how to run. `threads` 0 takes the CPUs that are really available; only CPU engines
    use it.

    `streams` is how many calls may be at work at once. `precision` is what is computed in, where an
    engine has a choice for its file. Raises UsageError for a device or threads below 0, streams
    below 1, and for what is no precision.
    """

    device: int = 0
    threads: int = 0
    streams: int = 1
    precision: Wanted = "auto"
    cuda_graph: bool = True
    canary: bool = True  # whether a golden frame is run first
    memory: Allowance | None = None  # what engines take for themselves; None: as much as they need

    def __post_init__(self) -> None:
        for name, least in (("device", 0), ("threads", 0), ("streams", 1)):
            given = getattr(self, name)
            number = whole(given, least)
            if number is None:
                raise UsageError(
                    f"{name}: expected a whole number of {least} or more, got {given!r}"
                )
            object.__setattr__(self, name, number)  # NumPy's cannot be written as JSON
        if self.threads > _MOST_THREADS:
            raise UsageError(f"threads: expected {_MOST_THREADS} at most, got {self.threads}")
        if self.precision not in ("auto", *PRECISIONS):
            raise UsageError(
                f"expected precision auto or one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            )


@dataclass(frozen=True)
class Outputs:
    """A deblurring graph's outputs, in its own layout; None for a map that it does not make."""

    sharp: Any
    defocus: Any | None = None
    focus: Any | None = None


class Backend(Closing):
    """One artefact loaded into one engine, for any number of threads.

    Subclasses set `name`, and override `_load`, `_run` and `_close`. Their `_run` is called by
    several threads at once: where the engine cannot do that, they let the calls wait.
    """

    name: str
    bytes_per_pixel: float | None = None  # of a picture, while it runs; None: not known, or fixed
    copies: int = 0  # between host and GPU, in the last call
    bits: str = ""  # how its 8 bits were made; see `contract`
    canary: str = ""  # the golden frame's answers; see `canary`

    def __init__(self, artefact: Path, options: Options) -> None:
        self.artefact = artefact
        self.options = options
        self.calls = 0
        self._count = Lock()  # of what all threads change
        self._open = False
        self.spec, self.graph = self._load()
        self._open = True

    @property
    def precision(self) -> Precision:
        """What it computes in: that of its file, unless the engine computes in another."""
        return self.graph.precision

    @abstractmethod
    def _load(self) -> tuple[Spec, Graph]:
        """Load `self.artefact`; raise ArtefactError or BackendError."""

    @abstractmethod
    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run the graph once; `inputs` have been checked. The outputs by name."""

    @abstractmethod
    def _close(self) -> None:
        """Release everything; called once."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph on host arrays in its own layout (see `Graph`); the outputs by name.

        Raises InputError where an input is missing or unknown, or where dtype, layout or size are
        not what the graph takes.
        """
        self.check_open()
        self.check_names(inputs)
        for name, array in inputs.items():
            self._check(name, array.shape, array.dtype)
        sizes = {name: layout(name, self.graph.io).size(a.shape) for name, a in inputs.items()}
        if len({size for size in sizes.values() if size is not None}) > 1:
            found = ", ".join(f"{name} {size}" for name, size in sizes.items() if size)
            raise InputError(f"{self.artefact.name}: inputs of one size are needed, got {found}")
        self._called()
        return self._run({name: np.ascontiguousarray(a) for name, a in inputs.items()})

    def release(self) -> None:
        """Give back the memory that runs have taken, where an engine keeps it; here nothing."""

    def infer(self, image: Array) -> Outputs:
        """Deblur: `run` for a graph that takes one picture and gives its sharp version."""
        return Outputs(**self.run({"image": image}))

    def infer_device(self, frame: Any) -> Outputs:
        """Run the graph on a frame that lies in GPU memory; the outputs lie there too.

        `frame` offers `__cuda_array_interface__` or a CUDA `__dlpack__`. Only TensorRT engines take
        such frames; the others raise InputError.
        """
        raise InputError(self._host_only(frame))

    def fetch(self, frame: Any) -> Array:
        """A copy in host memory of a frame that `infer_device` takes, or gave, as `frame_layout`
        tells, without a leading 1.
        """
        raise InputError(self._host_only(frame))

    def _host_only(self, frame: Any) -> str:
        return (
            f"frame on a GPU ({type(frame).__name__}): the backend {self.name!r} takes frames in "
            "host memory; copy it there, or load a TensorRT engine (`allfocus export` makes one)"
        )

    def size_for(self, size: Size) -> Size:
        """The size a frame of `size` must be padded to; raises InputError where none fits."""
        padded = size.padded(self.spec.multiple)
        shapes = self.graph.shapes
        if shapes is None:
            return padded
        wanted = padded.at_least(shapes.min)
        if not wanted.within(shapes.max):
            raise InputError(
                f"frame of {size}: {self.artefact.name} takes at most {shapes.max}; export one for "
                f"larger frames: `{self.larger(padded)}`"
            )
        return wanted

    def larger(self, size: Size) -> str:
        """The command that exports a graph like this one, for frames of `size`."""
        return larger_command(self.spec, self.graph, self.artefact, self.name, size)

    def check_open(self) -> None:
        """Raise ArtefactError after `close`."""
        if not self._open:
            raise ArtefactError(f"{self.artefact}: closed; load it again")

    def close(self) -> None:
        """Release the engine; a second call does nothing."""
        with self._count:
            was_open, self._open = self._open, False
        if was_open:
            self._close()

    def _called(self) -> None:
        """Count one call."""
        with self._count:
            self.calls += 1

    def check_names(self, inputs: Mapping[str, Any]) -> None:
        """Raise InputError where `inputs` are not those of the graph by name."""
        expected = self.graph.signature.inputs
        if set(inputs) == set(expected):
            return
        hint = ""
        if "context" in set(expected) - set(inputs):
            hint = "; the context comes from the model's phase `estimate`, run on the whole picture"
        given = ", ".join(inputs) or "nothing"
        raise InputError(f"{self.artefact.name} takes {', '.join(expected)}, got {given}{hint}")

    def _check(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        expected = layout(name, self.graph.io)
        given = f"{self.artefact.name}: {name}"
        if not expected.fits(shape) or 0 in shape:
            raise InputError(f"{given} takes {expected}, got shape {list(shape)}")
        if np.dtype(dtype) != expected.dtype:
            raise InputError(f"{given} takes {expected}, got {dtype}")
        size = expected.size(shape)
        if size is not None and self.size_for(size) != size:
            raise InputError(
                f"{given} of {size} does not fit; it takes "
                f"{self.graph.shapes or f'multiples of {self.spec.multiple}'}"
            )
