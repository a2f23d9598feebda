"""What a run writes down: `log.csv`, and on request TensorBoard's events."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from allfocus.runtime.errors import UsageError
from allfocus.runtime.files import publish, writing

writing_of_run = partial(  # whatever a run appends to or replaces, with what to do
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
        with writing_of_run(self._path):
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
        with writing_of_run(self._path):
            self._writer.writerow((step, stage, f"{loss:.6g}", *figures))
        self.show(step, {"loss": loss, "stage": stage, **parts})

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of a step for TensorBoard alone."""
        if self._events is not None:
            for name, value in figures.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Nothing is written after this."""
        with writing_of_run(self._path):
            self._file.close()
        if self._events is not None:
            self._events.close()


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
