"""What a run writes down: `log.csv`, on request TensorBoard's events, and pictures to look at."""

from __future__ import annotations

import csv
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from allfocus.runtime.errors import UsageError
from allfocus.runtime.files import publish, writing
from allfocus.train.data import Samples, batches
from allfocus.train.models.apl_detect import AplDetect
from allfocus.train.models.base import Deblurrer, Net
from allfocus.train.picture_file import write_picture
from allfocus.train.recipe import RADIUS

SHOWN = 4  # held-out samples in a sheet
_writing = partial(
    writing,
    advice="the last saved state is kept. Free some space and give the same command again",
)


class Log:
    """`log.csv`: one row a step; rows past the resumed step are dropped, and one that was cut
    short. With `events`, the same numbers for TensorBoard in the folder `tensorboard`.

    Raises AllfocusError where the disk is full, UsageError where TensorBoard is not installed.
    """

    def __init__(self, out: Path, parts: tuple[str, ...], first: int, *, events: bool) -> None:
        self._parts, self._path = parts, out / "log.csv"
        self._events = _open_events(out / "tensorboard", first) if events else None
        columns = ("step", "stage", "loss", *parts)
        with _writing(self._path):
            rows = _rows_before(self._path, first, columns) if first else []
            with (
                # Where the disk is full, the former log stays.
                publish(self._path, durable=True) as draft,
                draft.open("w", newline="", encoding="utf-8") as file,
            ):
                csv.writer(file).writerows((columns, *rows))
            self._file = self._path.open("a", newline="", encoding="utf-8", buffering=1)
            self._writer = csv.writer(self._file)

    def write(self, step: int, stage: int, loss: float, parts: dict[str, float]) -> None:
        """The row of a step, with the parts that its loss has."""
        figures = (f"{parts[c]:.6g}" if c in parts else "" for c in self._parts)
        with _writing(self._path):
            self._writer.writerow((step, stage, f"{loss:.6g}", *figures))
        if self._events is not None:
            for name, value in {"loss": loss, "stage": stage, **parts}.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Nothing is written after this."""
        with _writing(self._path):
            self._file.close()
        if self._events is not None:
            self._events.close()


class Sheets:
    """Pictures of how a net does on some held-out samples: `samples/STEP.png`.

    A row a sample: blurry, what the net makes of it, the truth, the net's map, the true one.
    """

    def __init__(self, net: Net, samples: Samples, out: Path) -> None:
        self.net, self.out = net, out
        scale = net.max_radius or RADIUS
        count = {"start": 0, "stop": SHOWN, "batch": 1}
        self.batches = list(batches(samples, **count, max_radius=scale, workers=0))

    @torch.inference_mode()
    def write(self, step: int) -> Path:
        """The sheet of the net as it is now; its mode stays what it was."""
        training = self.net.training
        self.net.eval()
        rows = [self._row(batch.blurry, batch.sharp, batch.defocus) for batch in self.batches]
        self.net.train(training)
        path = sheet_file(self.out, step)
        write_picture(path, np.concatenate(rows)[..., ::-1])
        return path

    def _row(self, blurry: Tensor, sharp: Tensor, defocus: Tensor) -> NDArray[np.uint8]:
        device = next(self.net.parameters()).device
        given = self.net(blurry.to(device))
        out, seen = (blurry, given) if isinstance(self.net, AplDetect) else given
        planes = (blurry, out, sharp, *(() if seen is None else (seen,)), defocus)
        return np.concatenate([_picture(plane) for plane in planes], axis=1)


def sheet_file(out: Path, step: int) -> Path:
    """Where the sheet of a step stands in a run's folder."""
    return out / "samples" / f"{step:07d}.png"


def can_show(net: Net) -> bool:
    """Whether there are sheets of such a net: it takes one picture."""
    return isinstance(net, Deblurrer | AplDetect)


def _picture(plane: Tensor) -> NDArray[np.uint8]:
    """[1, 1 or 3, H, W] -> RGB [H, W, 3]."""
    image = plane[0].float().clamp(0, 1).expand(3, -1, -1)
    return (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _rows_before(path: Path, first: int, columns: tuple[str, ...]) -> list[list[str]]:
    """The whole rows of the steps before `first`: a run that was killed may have cut its last.

    Empty where the log, of an earlier version, has not such a column.
    """
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", errors="replace")
    ended = [line.split(",") for line in text[: text.rfind("\n") + 1].splitlines()]
    header, *ended = ended or [[]]
    whole = [row for row in ended if len(row) == len(header)]
    before = [row for row in whole if row[0].isdecimal() and int(row[0]) < first]
    named = [dict(zip(header, row, strict=True)) for row in before]
    return [[row.get(name, "") for name in columns] for row in named]


def _open_events(folder: Path, first: int) -> Any:
    try:
        module = import_module("torch.utils.tensorboard")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--tensorboard: {error}; pip install tensorboard, or go without: log.csv has the "
            "same numbers"
        ) from None
    return module.SummaryWriter(str(folder), purge_step=first)
