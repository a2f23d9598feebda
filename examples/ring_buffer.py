"""Frames from another process, often one written in C, through a ring of slots in shared memory.

The memory, little-endian, as a C program sees it:

    struct ring {                        // 64 bytes, then `slots` frames of `stride * height` bytes
        uint32_t magic, slots, width, height, stride, channels;   // magic: 0x46434C41, "ALCF"
        _Atomic uint64_t written;        // frames written so far: the writer's alone
        _Atomic uint64_t read;           // frames that were let go of: the reader's alone
        uint32_t ended;                  // not 0: nothing more comes
        uint8_t padding[20];
    };

One writer, one reader. The writer fills slot `written % slots`, then adds one to `written`; while
`written - read == slots` it waits, or leaves a frame out. Frames are not copied to be deblurred:
the slot is let go of when its result is there.

    python examples/ring_buffer.py NAME        # a ring that another process has made
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker, shared_memory
from typing import Any

import numpy as np

import allfocus
from allfocus import Result
from allfocus.runtime.errors import InputError

MAGIC = 0x46434C41
HEAD = struct.Struct("<6I")
WRITTEN, READ, ENDED, SIZE = 24, 32, 40, 64  # bytes from the start
_POLL = 0.0005  # seconds


class Ring:
    """Both ends' view of the shared memory."""

    def __init__(self, memory: shared_memory.SharedMemory) -> None:
        found = HEAD.unpack_from(memory.buf)
        magic, self.slots, self.width, self.height, self.stride, self.channels = found
        needed = SIZE + self.slots * self.stride * self.height
        if magic != MAGIC or memory.size < needed or self.stride < self.width * self.channels:
            raise InputError(
                f"shared memory {memory.name}: no ring of frames (magic {magic:#x}, "
                f"{memory.size} bytes of {needed})"
            )
        self._memory = memory

    @classmethod
    def make(cls, name: str, slots: int, width: int, height: int) -> tuple[Ring, Any]:
        """A new ring of BGR frames, and its memory, to be closed and unlinked by its maker."""
        stride = -(-3 * width // 64) * 64  # rows begin on cache lines, as cameras' drivers do it
        size = SIZE + slots * stride * height
        memory = shared_memory.SharedMemory(name, create=True, size=size)
        HEAD.pack_into(memory.buf, 0, MAGIC, slots, width, height, stride, 3)
        return cls(memory), memory

    def counter(self, offset: int) -> int:
        """`written`, `read` or `ended`."""
        return int(
            struct.unpack_from("<Q" if offset != ENDED else "<I", self._memory.buf, offset)[0]
        )

    def count(self, offset: int, value: int) -> None:
        """Set one of them."""
        struct.pack_into("<I" if offset == ENDED else "<Q", self._memory.buf, offset, value)

    def slot(self, number: int) -> np.ndarray:
        """Frame `number` in place, [H, W, C]: rows may have gaps between them."""
        start = SIZE + number % self.slots * self.stride * self.height
        flat = np.frombuffer(self._memory.buf, np.uint8, self.stride * self.height, start)
        rows = flat.reshape(self.height, self.stride)[:, : self.width * self.channels]
        return rows.reshape(self.height, self.width, self.channels)

    def write(self, frame: np.ndarray) -> bool:
        """The writer's side; False where the ring is full."""
        written = self.counter(WRITTEN)
        if written - self.counter(READ) >= self.slots:
            return False
        self.slot(written)[...] = frame
        self.count(WRITTEN, written + 1)
        return True


def frames(ring: Ring) -> Iterator[np.ndarray]:
    """The reader's side: each frame in place, let go of when the next one is asked for."""
    number = ring.counter(READ)
    while True:
        if ring.counter(WRITTEN) > number:
            yield ring.slot(number)
            number += 1
            ring.count(READ, number)
        elif ring.counter(ENDED):
            return
        else:
            time.sleep(_POLL)


def attached(name: str) -> shared_memory.SharedMemory:
    """Memory that another process has made, and which stays that one's when this one ends."""
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name, track=False)
    memory = shared_memory.SharedMemory(name)
    if os.name == "posix":  # Python would remove it from the system at its own end
        resource_tracker.unregister(f"/{name}", "shared_memory")
    return memory


def deblur_all(deblur: Callable[[np.ndarray], Result], ring: Ring) -> Iterator[Result]:
    """Each frame's result. A Pipeline reads ahead: it would need copies of the frames."""
    for frame in frames(ring):
        yield deblur(frame)


def main(argv: list[str]) -> int:
    """Deblur what comes through the ring of this name."""
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        memory = attached(argv[0])
        ring = Ring(memory)
    except (OSError, InputError) as error:
        print(f"ring_buffer: {argv[0]}: {error}", file=sys.stderr)
        return 1
    with allfocus.load("didanet-lite") as deblur:
        for number, result in enumerate(deblur_all(deblur, ring)):
            print(f"frame {number}: {sum(result.timings.values()):.0f} ms")
    memory.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
