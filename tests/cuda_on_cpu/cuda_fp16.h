// The part of cuda_fp16.h that the kernels use; see cuda_runtime.h beside it.
#pragma once

using __half = _Float16;
inline float __half2float(__half value) { return float(value); }
inline __half __float2half_rn(float value) { return __half(value); }
