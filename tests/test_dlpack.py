from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime import dlpack
from allfocus.runtime.errors import InputError


class HostArray:
    """A DLPack producer in host memory, so that real libraries can take what `capsule` makes."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CPU, 0)

    def __dlpack__(self, **options: object) -> Any:
        del options
        array = self.array
        pointer = array.ctypes.data
        return dlpack.capsule(self, pointer, array.shape, array.dtype, self.__dlpack_device__())


SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
DTYPES = st.sampled_from(["u1", "i4", "f2", "f4", "f8"])


@given(SHAPES, DTYPES)
def test_numpy_reads_what_we_write(shape: tuple[int, ...], dtype: str) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    taken = np.from_dlpack(HostArray(array))
    assert taken.dtype == array.dtype
    assert np.array_equal(taken, array)
    assert taken.ctypes.data == array.ctypes.data


@given(SHAPES, DTYPES, st.booleans())
def test_we_read_what_numpy_writes(shape: tuple[int, ...], dtype: str, turned: bool) -> None:
    array = np.zeros(shape, dtype)
    array = array.T if turned else array
    capsule = array.__dlpack__()
    tensor = dlpack.read(capsule)
    assert tensor.pointer == array.ctypes.data
    assert (tensor.shape, tensor.dtype, tensor.device) == (array.shape, array.dtype, (1, 0))
    steps = zip(tensor.strides, array.strides, array.shape, strict=True)
    assert all(ours == theirs for ours, theirs, extent in steps if extent > 1)


def test_torch_reads_and_writes_the_same() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensor = torch.from_dlpack(HostArray(array))
    tensor[1, 2] = 50
    assert array[1, 2] == 50
    part = torch.arange(24, dtype=torch.uint8).reshape(2, 4, 3)[:, 1:3]
    capsule = part.__dlpack__()
    read = dlpack.read(capsule)
    assert read.pointer == part.data_ptr()
    assert (read.shape, read.strides, read.dtype) == ((2, 2, 3), (12, 3, 1), np.uint8)


def test_owner_lives_as_long_as_the_consumer() -> None:
    producer = HostArray(np.arange(3))
    watch = weakref.ref(producer)
    taken = np.from_dlpack(producer)
    del producer
    gc.collect()
    assert watch() is not None
    assert taken.tolist() == [0, 1, 2]
    del taken
    gc.collect()
    assert watch() is None


def test_owner_is_let_go_where_nobody_takes_the_capsule() -> None:
    producer = HostArray(np.arange(3))
    watch = weakref.ref(producer)
    capsule = producer.__dlpack__()
    del producer
    gc.collect()
    assert watch() is not None
    del capsule
    gc.collect()
    assert watch() is None


def test_what_goes_wrong_with_a_capsule_is_told_and_the_owner_let_go() -> None:
    """A capsule that dies while an exception is on its way must not hide it."""
    producer = HostArray(np.arange(3))
    watch = weakref.ref(producer)
    with pytest.raises(TypeError, match="unsupported operand"):
        1 + producer.__dlpack__()
    del producer
    gc.collect()
    assert watch() is None


def test_memory_of_a_gpu_is_called_that() -> None:
    array = np.zeros((2, 3), np.float32)
    made = dlpack.capsule(array, array.ctypes.data, (2, 3), array.dtype, (dlpack.CUDA, 1))
    found = dlpack.read(made)
    assert (found.device, found.pointer) == ((dlpack.CUDA, 1), array.ctypes.data)
    assert (found.shape, found.strides, found.dtype) == ((2, 3), (12, 4), np.float32)


def test_reading_does_not_take_the_tensor_over() -> None:
    producer = HostArray(np.arange(3))
    references = sys.getrefcount(producer)
    capsule = producer.__dlpack__()
    for _ in range(3):
        assert dlpack.read(capsule).shape == (3,)
    del capsule
    gc.collect()
    assert sys.getrefcount(producer) == references


@pytest.mark.parametrize("thing", [None, np.arange(3), np.arange(3).__dlpack__(max_version=(1, 0))])
def test_other_things_are_refused(thing: object) -> None:
    with pytest.raises(InputError, match="expected a capsule named b'dltensor'"):
        dlpack.read(thing)


def test_other_types_are_refused() -> None:
    with pytest.raises(InputError, match="type code 5 with 64 bits"):
        dlpack.read(np.zeros(3, np.complex64).__dlpack__())


def test_layout_is_that_of_the_header() -> None:
    tensor = dlpack._Tensor
    offsets = [getattr(tensor, name).offset for name, _ in tensor._fields_]
    assert ctypes.sizeof(ctypes.c_void_p) != 8 or offsets == [0, 8, 16, 20, 24, 32, 40]
    assert ctypes.sizeof(ctypes.c_void_p) != 8 or ctypes.sizeof(dlpack._Managed) == 64
