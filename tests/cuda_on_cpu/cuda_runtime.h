// Just enough of CUDA's runtime to run this project's kernels on a CPU, so that their arithmetic,
// indices and barriers are tested where there is no GPU. Not a model of a GPU's speed or memory.
//
// Blocks run one after another. A block's threads are fibers of one system thread, switched at
// barriers and warp shuffles only: a missing barrier shows as a wrong result, every time, and one
// that not all threads reach as an error. A thread that leaves early counts as arrived. Arrays in
// __shared__ memory are poisoned before each block. tests/test_cuda_on_cpu.py holds all this.
#pragma once

#include <math.h>
#include <string.h>

#include <algorithm>
#include <cstdint>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __shared__ static thread_local
#define __grid_constant__

using cudaError_t = int;
using cudaStream_t = struct CUstream_st*;
constexpr cudaError_t cudaSuccess = 0;
constexpr cudaError_t cudaErrorInvalidValue = 1;
constexpr cudaError_t cudaErrorInvalidConfiguration = 9;
constexpr cudaError_t cudaErrorLaunchFailure = 719;

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
    void* attrs = nullptr;
    unsigned numAttrs = 0;
};

// References and not macros: cudaLaunchConfig_t has members of these names.
static const dim3 &threadIdx = cpu::thread_index, &blockIdx = cpu::block_index,
                  &blockDim = cpu::block_size, &gridDim = cpu::grid_size;

inline void __syncthreads() { cpu::wait(cpu::block_barrier); }
inline void __syncwarp(unsigned = ~0u) { cpu::wait(cpu::warp_barriers[cpu::rank() / 32]); }
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return cpu::shuffle(value, cpu::rank() % 32 ^ unsigned(mask));
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned delta) {
    const unsigned lane = cpu::rank() % 32;
    return cpu::shuffle(value, lane + delta < 32 ? lane + delta : lane);
}
template <typename T>
T __ldg(const T* pointer) {
    return *pointer;
}

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

using std::max;
using std::min;

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    const dim3 grid = config->gridDim, block = config->blockDim;
    if (!grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535 ||
        block.x * block.y * block.z > 1024 || config->dynamicSmemBytes)
        return cudaErrorInvalidConfiguration;
    const std::lock_guard<std::mutex> lock(cpu::launching);
    cpu::body = [=] { kernel(static_cast<Parameters>(arguments)...); };
    return cpu::run_grid(grid, block) ? cudaSuccess : cudaErrorLaunchFailure;
}

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
