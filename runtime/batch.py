"""Many pictures on all cores and GPUs of a machine, or on several machines through Ray Data.

Each worker holds one model, reads its pictures itself and writes what comes out, whole or not at
all. So a batch that was killed is run again with `resume`, and does what is not there yet.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import AllfocusError, BackendError
from allfocus.runtime.files import remove_drafts
from allfocus.runtime.gpu import find_gpus
from allfocus.runtime.jobs import Job
from allfocus.runtime.model_options import opened
from allfocus.runtime.skip import Choice
from allfocus.runtime.work import Done, Failure, do_one

_AHEAD = 2  # jobs a worker that wait: enough that none is ever idle


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How each worker loads its model and does a picture; see `load` and `deblur`."""

    model: str
    backend: str
    memory: str
    skip: Choice
    check: bool
    fallback: float | None
    quality: int | None
    max_pixels: int
    threads: int = 0
    device: int = 0


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


def workers_for(settings: Settings, asked: int) -> list[Settings]:
    """The settings of each worker: one for each GPU, or for each core where there is none.

    `asked` 0 chooses their number. Cores, and GPUs, are shared out evenly.
    """
    gpus = 0 if settings.backend == "cpu" else len(find_gpus().devices)
    count = asked or gpus or available_cpus()
    threads = settings.threads or max(1, available_cpus() // count)
    devices = [index % gpus if gpus else settings.device for index in range(count)]
    return [replace(settings, threads=threads, device=device) for device in devices]


def remaining(jobs: Sequence[Job]) -> list[Job]:
    """Those of `jobs` that lack an output; what a killed run left half-written is removed."""
    left = [job for job in jobs if not all(path.exists() for path in job.outputs())]
    remove_drafts(path for job in left for path in job.outputs())
    return left


def run_local(jobs: Sequence[Job], workers: Sequence[Settings]) -> Iterator[Done | Failure]:
    """What becomes of each job, as they are done, by processes on this machine.

    An end before the last one lets the pictures in hand be finished. Raises BackendError where a
    worker dies.
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


def run_ray(
    jobs: Sequence[Job], settings: Settings, *, count: int, address: str | None
) -> Iterator[Done | Failure]:
    """The same by Ray Data, on a cluster or on this machine; paths must mean the same everywhere.

    Rows are read as actors ask for them; each actor holds one model. Raises BackendError where Ray
    is not installed or there is no such cluster.
    """
    ray = _import_ray()
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BackendError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    gpus = 0 if settings.backend == "cpu" else int(ray.cluster_resources().get("GPU", 0))
    cpus = int(ray.cluster_resources().get("CPU", 1))
    actors = count or gpus or cpus
    share = {"num_gpus": 1} if gpus else {"num_cpus": max(1, cpus // actors)}
    rows = ray.data.from_items([_row(job) for job in jobs])
    done = rows.map(
        _RayWorker,
        fn_constructor_args=(replace(settings, threads=settings.threads or cpus // actors or 1),),
        concurrency=actors,
        **share,
    )
    for row in done.iter_rows():
        yield _outcome(row)


_worker: Worker | None = None


def _start(places: Any) -> None:
    """In a new process: load the model; Ctrl-C is the parent's business."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = Worker(places.get())


def _work(job: Job) -> Done | Failure:
    assert _worker is not None
    return _worker(job)


class _RayWorker:
    """A Ray actor: rows of plain values in and out."""

    def __init__(self, settings: Settings) -> None:
        self._worker = Worker(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        done = self._worker(_job(row))
        if isinstance(done, Failure):
            return {**row, "error": str(done.error), "done": ""}
        told = {k: v for k, v in asdict(done).items() if k != "job"}
        return {**row, "error": "", "done": json.dumps(told)}


def _row(job: Job) -> dict[str, str]:
    paths = vars(job).items()
    return {name: str(path.absolute()) if path else "" for name, path in paths}


def _job(row: dict[str, Any]) -> Job:
    def path(name: str) -> Path | None:
        return Path(row[name]) if row[name] else None

    return Job(
        source=Path(row["source"]),
        target=Path(row["target"]),
        defocus=path("defocus"),
        view=path("view"),
        trust=path("trust"),
    )


def _outcome(row: dict[str, Any]) -> Done | Failure:
    job = _job(row)
    if row["error"]:
        return Failure(job, AllfocusError(row["error"]))
    told = json.loads(row["done"])
    return Done(job=job, **{**told, "notes": tuple(told["notes"])})


def _import_ray() -> Any:
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise BackendError(
            f'--engine ray needs Ray ({error}): pip install "allfocus[ray]"'
        ) from error
    return ray
