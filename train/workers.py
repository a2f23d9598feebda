"""Processes that make samples, for training and for `allfocus data render`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from allfocus.runtime.errors import AllfocusError, UsageError

Collate = Callable[[list[Any]], Any]


def loader(
    samples: Dataset[Any],
    numbers: Iterable[int],
    workers: int,
    *,
    ahead: int,
    batch: int | None = None,
    collate: Collate | None = None,
) -> Iterable[Any]:
    """Those `samples` in order, in batches where `batch` is given, made by `workers` processes.

    Each makes `ahead` of them before they are asked for. Without workers this process makes them.
    Raises UsageError for a number of workers that is none. An AllfocusError in a worker is raised
    here as it is.
    """
    if workers < 0:
        raise UsageError(f"workers: expected a whole number of 0 or more, got {workers}")
    made: DataLoader[Any] = DataLoader(
        _Handed(samples),
        batch_size=batch,
        sampler=numbers,
        num_workers=workers,
        collate_fn=_Collated(collate) if collate else None,
        worker_init_fn=_one_thread,
        prefetch_factor=ahead if workers else None,
    )
    return _Raised(made, workers > 0)


class _Handed(Dataset[Any]):
    """`samples`, with an error handed over as a value.

    What a worker raises, PyTorch raises anew with the worker's traceback as its text.
    """

    def __init__(self, samples: Dataset[Any]) -> None:
        self._samples = samples

    def __getitem__(self, index: int) -> Any:
        try:
            return self._samples[index]
        except AllfocusError as error:
            return error


@dataclass(frozen=True)
class _Collated:
    """A batch, or the first error among its samples."""

    collate: Collate

    def __call__(self, samples: list[Any]) -> Any:
        errors = (sample for sample in samples if isinstance(sample, AllfocusError))
        return next(errors, None) or self.collate(samples)


@dataclass(frozen=True)
class _Raised:
    """What a loader gives, its errors raised."""

    made: DataLoader[Any]
    forks: bool

    def __iter__(self) -> Iterator[Any]:
        if not self.forks:
            return _raised(iter(self.made))
        threads = cv2.getNumThreads()
        _one_thread(0)  # a forked process would wait for ever for threads it has no copy of
        try:
            return _raised(iter(self.made))  # its processes start here, not at the first sample
        finally:
            cv2.setNumThreads(threads)  # this one's own work, such as JDRL's flows


def _raised(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, AllfocusError):
            raise value
        yield value


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)  # workers are the parallelism; more threads fight with the training step
