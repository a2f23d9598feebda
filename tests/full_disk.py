"""A disk that takes no more of a file than so many bytes."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """While this is held, what is written to a file beyond `size` bytes fails, as on a full disk.

    OpenCV's and others' writers hold back the last bytes until they close a file: a disk that fills
    up there is what this is for.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
