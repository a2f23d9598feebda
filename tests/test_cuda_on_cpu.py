"""The stand-in for CUDA's runtime finds the mistakes that it is there to find."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
import torch
from emulated import compile_for_cpu

KERNELS = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

template <typename K, typename... A>
int run(K kernel, dim3 grid, dim3 block, A... arguments) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// Thread i takes what thread i + 1 left in shared memory.
template <bool BARRIER>
__global__ void rotate(int* out) {
    __shared__ int values[96];
    values[threadIdx.x] = threadIdx.x;
    if (BARRIER) __syncthreads();
    out[threadIdx.x] = values[(threadIdx.x + 1) % blockDim.x];
}
extern "C" int rotated(int* out, bool barrier) {
    return run(barrier ? rotate<true> : rotate<false>, 1, 96, out);
}

// Within warps, then across the 40 threads that did not leave.
__global__ void shuffle(int* out) {
    const int thread = threadIdx.x;
    if (thread >= 40) return;
    const int around = 100 * __shfl_xor_sync(~0u, thread, 5) + __shfl_down_sync(~0u, thread, 1);
    out[thread] = around;
    __syncthreads();
    const int other = out[39 - thread];
    __syncthreads();
    out[thread] = other;
}
extern "C" int shuffled(int* out) { return run(shuffle, 1, 96, out); }

// What a template's shared memory holds at first; every block leaves its own number there.
template <typename T>
__global__ void remember(T* out) {
    __shared__ T value;
    out[blockIdx.x] = value;
    value = T(blockIdx.x);
}
extern "C" int remembered(int* out, float* more) {
    return run(remember<int>, 4, 1, out) + run(remember<float>, 4, 1, more);
}

// Some of a warp wait for the warp, the others for the block.
__global__ void part(int* out) {
    if (threadIdx.x < 7) __syncwarp();
    else if (threadIdx.x < 32) __syncthreads();
    else return;
    out[0] = 1;
}
extern "C" int parted(int* out) { return run(part, 1, 64, out); }

__global__ void nothing() {}
extern "C" int empty(unsigned x, unsigned y, unsigned z, unsigned threads) {
    return run(nothing, dim3(x, y, z), threads);
}

extern "C" void rounded(const float* values, int count, __half* half, __nv_bfloat16* brain) {
    for (int i = 0; i < count; ++i) {
        half[i] = __float2half_rn(values[i]);
        brain[i] = __float2bfloat16_rn(values[i]);
    }
}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++: kernels cannot be compiled for the CPU")
    path = tmp_path_factory.mktemp("kernels") / "kernels.cu"
    path.write_text(KERNELS)
    return path


@pytest.fixture(scope="module")
def library(source: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(compile_for_cpu([source], source.with_name("sound.so"))))


def pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


@pytest.mark.parametrize("barrier", [True, False])
def test_a_missing_barrier_shows(barrier: bool, library: ctypes.CDLL) -> None:
    out = torch.zeros(96, dtype=torch.int32)
    assert library.rotated(pointer(out), barrier) == 0
    wanted = [*range(1, 96), 0]
    assert (out.tolist() == wanted) == barrier


def test_shuffles_and_threads_that_left(library: ctypes.CDLL) -> None:
    out = torch.zeros(96, dtype=torch.int32)
    assert library.shuffled(pointer(out)) == 0
    around = [100 * (i ^ 5) + (i if i == 31 else i + 1) for i in range(39)]
    assert out[1:40].tolist() == around[::-1]  # the last one's neighbour is gone
    assert not out[40:].any()


def test_shared_memory_is_poisoned_before_each_block(library: ctypes.CDLL) -> None:
    whole, real = torch.zeros(4, dtype=torch.int32), torch.zeros(4)
    assert library.remembered(pointer(whole), pointer(real)) == 0
    assert (whole == -1).all()
    assert real.isnan().all()


def test_a_barrier_that_some_never_reach_is_an_error(source: Path) -> None:
    library = ctypes.CDLL(str(compile_for_cpu([source], source.with_name("broken.so"))))
    out = torch.zeros(64, dtype=torch.int32)
    assert library.empty(1, 1, 1, 32) == 0
    assert library.parted(pointer(out)) == 719
    assert library.empty(1, 1, 1, 32) == 719  # as on a GPU, nothing runs after it
    assert not out.any()


@pytest.mark.parametrize(
    "shape", [(0, 1, 1, 32), (1, 65536, 1, 32), (1, 1, 65536, 32), (1, 1, 1, 1025)]
)
def test_shapes_that_a_gpu_refuses(shape: tuple[int, ...], library: ctypes.CDLL) -> None:
    assert library.empty(*shape) == 9
    assert library.empty(3, 2, 2, 1024) == 0


def test_halves_are_rounded_as_by_torch(library: ctypes.CDLL) -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (100_000,), generator=generator, dtype=torch.int64)
    ties = (torch.arange(1000) << 20) + (1 << 12) * torch.tensor([[1], [8]])  # of half, of bfloat16
    values = torch.cat([bits, ties.flatten()]).to(torch.int32).view(torch.float32)
    half, brain = values.half(), values.bfloat16()
    got_half, got_brain = torch.zeros_like(half), torch.zeros_like(brain)
    library.rounded(pointer(values), len(values), pointer(got_half), pointer(got_brain))
    assert values.isnan().any()
    for got, wanted in ((got_half, half), (got_brain, brain)):
        assert torch.equal(got.isnan(), wanted.isnan())
        assert torch.equal(got.nan_to_num(7), wanted.nan_to_num(7))
