"""OpenVINO's Core: one a process, made at first use and kept to its end.

Its CPU plugin gives the thread that makes it a stack for signals of its own, and takes it away
where the plugin ends: where it finds another's there by then, as after two Cores that do not end in
the opposite order, or on another thread, the thread is left with a stack that is no more. The next
signal, such as Ctrl-C, then ends the process with a segmentation fault.
"""

from __future__ import annotations

import os
from importlib import import_module
from threading import Lock
from typing import Any

from allfocus.runtime.errors import BackendError

EXTRA = "openvino"

_lock = Lock()
_cores: dict[int, Any] = {}  # by process: after a fork the threads of the parent's are no more


def core() -> Any:
    """The `openvino.Core` of this process. Raises BackendError where OpenVINO is missing."""
    try:
        openvino = import_module("openvino")
    except ImportError as error:
        raise BackendError(
            f'openvino cannot be imported ({error}): pip install "allfocus[{EXTRA}]"'
        ) from error
    process = os.getpid()
    with _lock:
        if process not in _cores:
            _cores[process] = openvino.Core()
        return _cores[process]
