"""Processes that make samples, for training and for `allfocus data render`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from allfocus.runtime.errors import UsageError


def loader(
    samples: Dataset[Any],
    numbers: Iterable[int],
    workers: int,
    *,
    ahead: int,
    batch: int | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """Those `samples` in order, in batches where `batch` is given, made by `workers` processes.

    Each makes `ahead` of them before they are asked for. Without workers this process makes them.
    Raises UsageError for a number of workers that is none.
    """
    if workers < 0:
        raise UsageError(f"workers: expected a whole number of 0 or more, got {workers}")
    if workers:
        _one_thread(0)  # a forked process would wait for ever for threads it has no copy of
    return DataLoader(
        samples,
        batch_size=batch,
        sampler=numbers,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_one_thread,
        prefetch_factor=ahead if workers else None,
    )


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)  # workers are the parallelism; more threads fight with the training step
