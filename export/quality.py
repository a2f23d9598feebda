"""What a graph loses in quality, and gains in time, against its float32 original.

On the built-in evaluation set (`train.evaluation_set`), in 8 bits, by ONNX Runtime's CPU, which
runs every dialect; its speed is another matter, and measured in the engine that the graph is for.
A graph of 8 bits is judged by what it gives where they are computed without overflow, which is
nearly everywhere: on a CPU without VNNI its values are rounded alike, but summed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from allfocus.export.quantize import Dialect
from allfocus.export.widened import UNFUSED
from allfocus.runtime import ov_core
from allfocus.runtime.abilities import lacks
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import ParityError
from allfocus.runtime.spec import Size

if TYPE_CHECKING:
    from onnx import ModelProto

    from allfocus.train.evaluation_pair import Pair

Picture = NDArray[np.float32]  # [1, 3, H, W], RGB in 0 to 1
Run = Callable[[Picture], Picture]

_TIMED = Size(304, 208)  # pixels: of the frame that is timed; time goes with the pixels
_ROUNDS = 5
_HIGHEST_DB = 120.0


@dataclass(frozen=True)
class Loss:
    """PSNR in dB, means over the set's pictures."""

    psnr_db: float  # against the truth, 8 bits
    original_db: float  # the same of the float32 graph
    to_original_db: float  # against the float32 graph's own pictures
    scenes: int  # of the set

    @property
    def loss_db(self) -> float:
        """What is lost against the truth; below 0 where it happens to be better."""
        return self.original_db - self.psnr_db


@dataclass(frozen=True)
class Speed:
    """Of one frame, medians of rounds that take turns with the float32 graph's."""

    engine: str
    milliseconds: float
    times_as_fast: float


class Quality:
    """Compares graphs with the float32 graph `original`; all have the float face and any size.

    `scenes`: how many of the set, from its start; None: all.
    """

    def __init__(self, original: ModelProto, multiple: int, scenes: int | None = None) -> None:
        self._original, self._multiple, self._scenes = original, multiple, scenes

    def loss(self, model: ModelProto, what: str) -> Loss:
        """Of `model`, called `what` on the progress bar. Raises ParityError for NaN."""
        ours = self._run_all(model, what)
        truth = [_real(pair.sharp) for pair in self.pairs]
        alike = [_psnr(a, b) for a, b in zip(ours, self._theirs, strict=True)]
        means = _mean(ours, truth), _mean(self._theirs, truth), float(np.mean(alike))
        return Loss(*means, len(truth))

    def speed(self, model: ModelProto, dialect: Dialect) -> Speed | None:
        """None for what only a GPU runs, and where OpenVINO is not installed."""
        engine = {"ort": "ONNX Runtime", "openvino": "OpenVINO"}.get(dialect, "")
        if not engine or (dialect == "openvino" and find_spec("openvino") is None):
            return None
        start = run_openvino if dialect == "openvino" else run_ort
        runs = [start(self._original), start(model)]
        frame = self._timed
        times: list[tuple[float, ...]] = []
        for _ in range(1 + _ROUNDS):
            times.append(tuple(seconds(run, frame) for run in runs))
        ratios = [original / ours for original, ours in times[1:]]
        return Speed(engine, 1e3 * median(ours for _, ours in times[1:]), median(ratios))

    @cached_property
    def pairs(self) -> list[Pair]:
        """The set's pictures with their truth."""
        from allfocus.train.evaluation_scenes import available, photograph

        scenes = available()[0][: self._scenes]
        return [photograph(scene) for scene in tqdm(scenes, desc="scenes", disable=None)]

    @cached_property
    def _theirs(self) -> list[Picture]:
        return self._run_all(self._original, "float32")

    @cached_property
    def _timed(self) -> Picture:
        size = _TIMED.padded(self._multiple)
        whole = self._input(self.pairs[0])
        return np.ascontiguousarray(whole[:, :, : size.height, : size.width])

    def _run_all(self, model: ModelProto, what: str) -> list[Picture]:
        run = run_ort(model, as_meant=True)
        found = []
        for pair in tqdm(self.pairs, desc=what, disable=None, leave=False):
            height, width = pair.blurry.shape[:2]
            picture = run(self._input(pair))[:, :, :height, :width]
            if not np.isfinite(picture).all():
                raise ParityError(f"{what}: NaN or infinity on {pair.name}; nothing was kept")
            found.append(picture)
        return found

    def _input(self, pair: Pair) -> Picture:
        """Grown to the multiple, as the runtime does."""
        picture = _real(pair.blurry)
        missing = [(0, -length % self._multiple) for length in picture.shape[2:]]
        return np.pad(picture, ((0, 0), (0, 0), *missing), mode="reflect")


def run_ort(model: ModelProto, *, as_meant: bool = False) -> Run:
    """What makes `sharp` of `image` in ONNX Runtime, on all CPUs.

    `as_meant`: 8 bits without the overflow that a CPU without VNNI is prone to, slowly there.
    """
    import onnxruntime as ort
    from onnx import TensorProto

    options = ort.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    options.log_severity_level = 3
    fp8 = any(each.data_type == TensorProto.FLOAT8E4M3FN for each in model.graph.initializer)
    if fp8 or (as_meant and lacks("int8")):
        options.add_session_config_entry(*UNFUSED)
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda picture: np.asarray(session.run(["sharp"], {"image": picture})[0], np.float32)


def run_openvino(model: ModelProto) -> Run:
    """The same in OpenVINO, float32 where it is not 8 bits."""
    from onnx import save
    from onnx.inliner import inline_local_functions

    core = ov_core.core()
    with TemporaryDirectory() as folder:  # it reads no bytes of over 2 GB, nor some small ones
        path = Path(folder) / "model.onnx"
        save(inline_local_functions(model), str(path))  # functions it does not know
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": available_cpus(),
        }
        compiled = core.compile_model(core.read_model(path), "CPU", options)
    request = compiled.create_infer_request()

    def run(picture: Picture) -> Picture:
        found: Any = request.infer({"image": picture})["sharp"]
        return np.array(found)

    return run


def seconds(run: Run, frame: Picture) -> float:
    """Of one call."""
    start = perf_counter()
    run(frame)
    return perf_counter() - start


def _real(frame: NDArray[np.uint8] | None) -> Picture:
    """Levels [H, W, 3] -> [1, 3, H, W]."""
    assert frame is not None  # the built-in set has its truth
    planes = frame.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(planes)


def _mean(pictures: list[Picture], truth: list[Picture]) -> float:
    rounded = (np.rint(picture.clip(0, 1) * 255) / 255 for picture in pictures)
    return float(np.mean([_psnr(a, b) for a, b in zip(rounded, truth, strict=True)]))


def _psnr(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    square = float(np.mean((found.astype(np.float64) - wanted) ** 2))
    return min(_HIGHEST_DB, -10 * np.log10(square)) if square else _HIGHEST_DB
