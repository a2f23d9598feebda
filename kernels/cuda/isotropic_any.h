// Isotropic per-pixel convolution for any number of levels: plain and slow beside the kernels for 8.
#pragma once

#include "element.cuh"

namespace allfocus {

struct Any {
    int64_t n, channels;
    int height, width, levels;

    __host__ __device__ int64_t plane() const { return int64_t(height) * width; }
    __host__ __device__ int64_t pixels() const { return n * plane(); }
    __host__ __device__ int64_t seeds() const { return int64_t(levels) * (levels + 1) / 2 - 1; }
};

template <typename T>
int forward_any(const T* image, const T* seeds, const T* weights, T* out, Any p,
                allfocus_stream stream);

// shares: float [n, 2 * levels, height, width]. grad_seeds and grad_weights are both null or not.
template <typename T>
int backward_any(const T* grad_out, const T* image, const T* seeds, const T* weights,
                 T* grad_image, T* grad_seeds, T* grad_weights, float* shares, Any p,
                 allfocus_stream stream);

}  // namespace allfocus
