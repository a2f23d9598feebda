"""A pipeline's warnings said once: a whole video of frames that fail alike would fill the log."""

from __future__ import annotations

import logging
import re
from threading import Lock

from allfocus.runtime.closing import Closing

_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")


class Repeats(logging.Filter, Closing):
    """Within `with`, lets warnings of `module` that differ in nothing but numbers through once.

    `told` are those that came more than once: the first of them, and how many came after it.
    """

    def __init__(self, module: str = "pipeline") -> None:
        super().__init__()
        self._module = module
        self._lock = Lock()
        self._first: dict[str, str] = {}
        self._more: dict[str, int] = {}

    @property
    def told(self) -> list[tuple[str, int]]:
        """Each message that was kept back, and how often."""
        return [(self._first[kind], count) for kind, count in self._more.items()]

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        if record.module != self._module:
            return True
        message = record.getMessage()
        kind = _NUMBERS.sub("#", message)
        with self._lock:
            if kind not in self._first:
                self._first[kind] = message
                return True
            self._more[kind] = self._more.get(kind, 0) + 1
            return False

    def __enter__(self) -> Repeats:
        logging.getLogger("allfocus").addFilter(self)
        return self

    def close(self) -> None:
        """Let all through again; a second call does nothing."""
        logging.getLogger("allfocus").removeFilter(self)
