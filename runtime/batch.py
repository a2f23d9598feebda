"""Many pictures on all cores and GPUs of a machine; `batch_ray` is the same on several machines.

Each worker holds one model, reads its pictures itself and writes what comes out, whole or not at
all. So a batch that was killed is run again with `resume`, and does what is not there yet.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.ensemble import Ensemble
from allfocus.runtime.errors import AllfocusError, BackendError
from allfocus.runtime.files import remove_drafts
from allfocus.runtime.gpu import find_gpus
from allfocus.runtime.jobs import Job
from allfocus.runtime.model_options import opened
from allfocus.runtime.probe import ON_CPU
from allfocus.runtime.skip import Choice
from allfocus.runtime.spec import Wanted
from allfocus.runtime.work import Done, Failure, do_one

_AHEAD = 2  # jobs a worker that wait: enough that none is ever idle


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How each worker loads its model and does a picture; see `load` and `deblur`."""

    model: str
    backend: str
    memory: str | None
    skip: Choice
    check: bool
    fallback: float | None
    ensemble: Ensemble
    reach: float | None
    quality: int | None
    max_pixels: int
    threads: int = 0
    device: int = 0
    precision: Wanted = "auto"


class Worker:
    """One loaded model, in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._deblur = opened(settings)

    def __call__(self, job: Job) -> Done | Failure:
        """Do one picture."""
        try:
            return do_one(self._deblur, job, self._settings.quality, self._settings.max_pixels)
        except AllfocusError as error:
            return Failure(job, error)


def workers_for(settings: Settings, asked: int, jobs: int) -> list[Settings]:
    """The settings of each worker: one for each GPU, or for each core where there is none.

    `asked` 0 chooses their number; there are no more than `jobs`. Cores, and GPUs, are shared out
    evenly, from the GPU `device` on.
    """
    gpus = 0 if settings.backend in ON_CPU else len(find_gpus().devices)
    count = min(asked or gpus or available_cpus(), jobs)
    threads = settings.threads or max(1, available_cpus() // count)
    first = settings.device
    devices = [(first + index) % gpus if gpus else first for index in range(count)]
    return [replace(settings, threads=threads, device=device) for device in devices]


def remaining(jobs: Sequence[Job]) -> list[Job]:
    """Those of `jobs` that lack an output; what a killed run left half-written is removed."""
    left = [job for job in jobs if not all(path.exists() for path in job.outputs())]
    remove_drafts(path for job in left for path in job.outputs())
    return left


def run_local(jobs: Sequence[Job], workers: Sequence[Settings]) -> Iterator[Done | Failure]:
    """What becomes of each job, as they are done, by processes on this machine.

    An end before the last one lets the pictures in hand be finished. Raises BackendError where a
    worker dies, and what `load` raises where one cannot load its model.
    """
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    for settings in workers:
        places.put(settings)
    pool = ProcessPoolExecutor(len(workers), context, initializer=_start, initargs=(places,))
    with pool:
        waiting: set[Future[Done | Failure]] = set()
        rest = iter(jobs)
        try:
            while True:
                for job in rest:
                    waiting.add(pool.submit(_work, job))
                    if len(waiting) >= _AHEAD * len(workers):
                        break
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise BackendError(
                "a worker process died, most likely for lack of memory: give fewer --workers or "
                "less --memory, and run the command again with --resume: it goes on where it was"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


_worker: Worker | AllfocusError | None = None  # the error: why there is no model


def _start(places: Any) -> None:
    """In a new process: load the model; Ctrl-C is the parent's business."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _worker = Worker(places.get())
    except AllfocusError as error:  # raised from here, it would read as a process that died
        _worker = error


def _end_with_parent() -> None:
    """End this process when its parent is killed: nobody else may be told what it still writes.

    At once, because the parent's lock is free for the next run; a draft is removed by that one.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: Job) -> Done | Failure:
    if isinstance(_worker, AllfocusError):
        raise _worker
    assert _worker is not None
    return _worker(job)
