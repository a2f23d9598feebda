// The element types of tensors: loaded as float, computed as float, stored rounded to nearest.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "allfocus_kernels.h"

namespace allfocus {

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

__device__ __forceinline__ void store(float* place, float value) { *place = value; }
__device__ __forceinline__ void store(__half* place, float value) {
    *place = __float2half_rn(value);
}
__device__ __forceinline__ void store(__nv_bfloat16* place, float value) {
    *place = __float2bfloat16_rn(value);
}

// f(T*) with the element type of `dtype`; its result, or an error for an unknown dtype.
template <typename F>
int by_dtype(int dtype, F f) {
    switch (dtype) {
        case ALLFOCUS_F32: return f(static_cast<float*>(nullptr));
        case ALLFOCUS_F16: return f(static_cast<__half*>(nullptr));
        case ALLFOCUS_BF16: return f(static_cast<__nv_bfloat16*>(nullptr));
        default: return cudaErrorInvalidValue;
    }
}

// Enqueue a kernel; the launch's error, which is that of its shape: kernels run later.
template <typename... Parameters, typename... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, allfocus_stream stream,
           Arguments... arguments) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

}  // namespace allfocus
