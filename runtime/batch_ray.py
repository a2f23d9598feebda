"""`batch.run_local` on several machines, or on this one, by Ray Data.

Rows of plain values go to actors that hold one model each, and come back as pictures are done. An
actor that dies is started again, and its rows are given to another. So each row tells which outputs
were there before: a picture whose outputs are newer is not made a second time.
"""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from allfocus.runtime import errors
from allfocus.runtime.batch import Settings, Worker
from allfocus.runtime.errors import AllfocusError, BackendError
from allfocus.runtime.jobs import Job
from allfocus.runtime.pictures.image import read_image
from allfocus.runtime.probe import ON_CPU
from allfocus.runtime.work import Done, Failure

Row = dict[str, Any]
Do = Callable[[Job], Done | Failure]

_TRIES = 2  # of a picture whose actor dies: Ray itself would start actors for it for ever
_BLOCKS = 2000  # of rows at most: with few in each, results come soon and little is tried again
_REACH = 5.0  # seconds until a cluster has answered
_POLL = 0.2  # seconds


def run_ray(
    jobs: Sequence[Job], settings: Settings, *, count: int, address: str | None
) -> Iterator[Done | Failure]:
    """What becomes of each job, as they are done; paths must mean the same on all machines.

    `count` actors, 0: one for each GPU, or each core where there is none. Raises BackendError where
    Ray is not installed, there is no such cluster or Ray gives up, and what `load` raises where an
    actor cannot load its model.
    """
    ray = _import_ray()
    _connect(ray, address)
    ray.data.DataContext.get_current().enable_progress_bars = False  # the command shows its own
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # which else advises to switch them on again
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    rows = ray.data.from_items(
        [_row(job) for job in jobs], override_num_blocks=min(len(jobs), _BLOCKS)
    )
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    actors, each, place = places(nodes, settings, count, len(jobs))
    tries = _remembered(ray)
    done = rows.map(
        Actor,
        fn_constructor_args=(each, partial(_begin, tries)),
        compute=ray.data.ActorPoolStrategy(size=actors),
        **place,
    )
    try:
        with redirect_stdout(_Own(sys.stdout)):
            for row in done.iter_rows():
                yield _outcome(row)
    except ray.exceptions.RayTaskError:  # a fault in our code, with its place
        raise
    except ray.exceptions.RayError as error:
        raise BackendError(
            f"Ray gave up: {str(error).strip()}; run the command again with --resume: it goes on "
            "where it was"
        ) from error


class _Own:
    """A stream without what Ray's threads write, as of a machine that is lost: to stderr with it.

    Ray prints such things among the results, which programs read.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's own."""
        theirs = threading.current_thread().name.startswith("ray_")
        return (sys.stderr if theirs else self._stream).write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Tries:
    """Another actor, which remembers how often each picture was begun."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, source: str) -> int:
        """How often this picture has been begun, this time included."""
        self._begun[source] += 1
        return self._begun[source]


def _remembered(ray: Any) -> Any:
    """A Tries on this machine: with another one that dies, the batch would end."""
    here = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy(
        node_id=ray.get_runtime_context().get_node_id(), soft=True
    )
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(**options, scheduling_strategy=here)(Tries).remote()


def _begin(tries: Any, source: str) -> int:
    begun: int = import_module("ray").get(tries.begin.remote(source))
    return begun


class Actor:
    """One loaded model in a process of Ray's: rows of plain values in and out."""

    def __init__(self, settings: Settings, begin: Callable[[str], int]) -> None:
        self._settings, self._begin = settings, begin
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        self._worker: Do | AllfocusError
        try:
            self._worker = Worker(settings)
        except AllfocusError as error:  # raised from here, it would be a traceback of Ray's
            self._worker = error

    def __call__(self, row: Row) -> Row:
        """Do one picture, unless an actor that died since had done it."""
        if isinstance(self._worker, AllfocusError):
            return _told(row, self._worker, fatal=True)
        try:
            done = self._done_before(row) or self._do(_job(row), self._worker)
        except AllfocusError as error:
            return _told(row, error)
        if isinstance(done, Failure):
            return _told(row, done.error)
        told = {name: value for name, value in asdict(done).items() if name != "job"}
        return {**row, "done": json.dumps(told), "error": "", "kind": "", "fatal": False}

    def _done_before(self, row: Row) -> Done | None:
        """What is known of a picture all of whose outputs were written since the batch began."""
        job = _job(row)
        pairs = zip(_stamps(job), json.loads(row["before"]), strict=True)
        if not all(now is not None and now != before for now, before in pairs):
            return None
        made = read_image(job.target, max_pixels=self._settings.max_pixels)
        height, width = made.pixels.shape[:2]
        return Done(
            job=job,
            width=width,
            height=height,
            timings={},
            skipped=0.0,
            notes=("done by an actor that died before it could tell",),
        )

    def _do(self, job: Job, worker: Do) -> Done | Failure:
        if self._begin(str(job.source)) > _TRIES:
            error = BackendError(
                f"{job.source}: {_TRIES} actors died at it, most likely for lack of memory; give "
                "fewer --workers or less --memory, and run the command again with --resume"
            )
            return Failure(job, error)
        return worker(job)


def places(
    nodes: Sequence[Mapping[str, float]], settings: Settings, count: int, jobs: int
) -> tuple[int, Settings, dict[str, float]]:
    """How many actors there are on `nodes`, how each loads its model, and what of a node it takes.

    There are no more than `jobs`. Each takes a GPU where there are some, and as many cores as leave
    room for all others elsewhere; several share one where there are more actors.
    """
    cpus, gpus = ([int(node.get(kind, 0)) for node in nodes] for kind in ("CPU", "GPU"))
    if settings.backend in ON_CPU or not any(gpus):
        actors = min(count or max(1, sum(cpus)), jobs)
        cores = _share(cpus, actors)
        threads = settings.threads or max(1, int(cores))
        return actors, replace(settings, threads=threads), {"num_cpus": cores}
    actors = min(count or sum(gpus), jobs)
    threads = settings.threads or max(1, sum(cpus) // actors)
    # Ray shows each actor its own GPU alone: there, it is the first one.
    gpu = min(1.0, _share(gpus, actors))
    return actors, replace(settings, threads=threads, device=0), {"num_gpus": gpu}


def _share(nodes: Sequence[int], actors: int) -> float:
    """How many cores, or GPUs, each of `actors` can have, so that all find a place on `nodes`."""
    there = max(1, sum(nodes))
    for share in range(there // actors, 0, -1):
        if sum(node // share for node in nodes) >= actors:
            return share
    return 1 / math.ceil(actors / there)


def _connect(ray: Any, address: str | None) -> None:
    """Join the cluster at `address`, or one on this machine, which is started where none is."""
    if address and ":" in address:
        _check_answers(address)
    try:
        ray.init(
            address=address,
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BackendError(
            f"no Ray cluster at {address or 'this machine'}: {error}; start one with `ray start "
            "--head`, or leave out --address"
        ) from error


def _check_answers(address: str) -> None:
    """Raise BackendError where nothing listens at HOST:PORT: Ray itself tries for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()
    except (OSError, ValueError) as error:
        raise BackendError(
            f"no Ray cluster at {address}: {error}; give --address HOST:PORT as `ray start --head` "
            "tells it, or leave it out"
        ) from error


def _end_with(parent: int) -> None:
    """End this process when Ray's process that started it is gone, as after a kill of a batch.

    Ray sees to that too, but seconds later, and the next run's actors may be at the same pictures.
    """
    while os.getppid() == parent:
        time.sleep(_POLL)
    os._exit(1)


def _stamps(job: Job) -> list[list[int] | None]:
    """What changes of each output when it is written: every writing makes a new file."""
    return [_stamp(path) for path in job.outputs()]


def _stamp(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_mtime_ns]


def _row(job: Job) -> Row:
    paths = {name: str(path.absolute()) if path else "" for name, path in vars(job).items()}
    return {**paths, "before": json.dumps(_stamps(job))}


def _job(row: Row) -> Job:
    def path(name: str) -> Path | None:
        return Path(row[name]) if row[name] else None

    return Job(
        source=Path(row["source"]),
        target=Path(row["target"]),
        defocus=path("defocus"),
        view=path("view"),
        trust=path("trust"),
    )


def _told(row: Row, error: AllfocusError, *, fatal: bool = False) -> Row:
    kind = type(error).__name__
    return {**row, "done": "", "error": str(error), "kind": kind, "fatal": fatal}


def _outcome(row: Row) -> Done | Failure:
    """What an actor told; raises its error where it cannot do any picture."""
    job = _job(row)
    if row["error"]:
        error = getattr(errors, row["kind"], AllfocusError)(row["error"])
        if row["fatal"]:
            raise error
        return Failure(job, error)
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
