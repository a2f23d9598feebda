"""Arrays in the memory of a real GPU."""

from __future__ import annotations

from allfocus.runtime.backend import Array
from allfocus.runtime.cudart import Device, Memory, Stream
from allfocus.runtime.device_array import DeviceArray


def on_gpu(image: Array) -> DeviceArray:
    """`image` in GPU memory of its own."""
    from cuda.bindings import runtime

    device = Device(runtime, 0)
    device.use()
    stream, memory = Stream(device), Memory(device, image.nbytes)
    stream.copy(memory.pointer, image.ctypes.data, image.nbytes)
    stream.synchronize()
    return DeviceArray(memory, image.shape, image.dtype)
