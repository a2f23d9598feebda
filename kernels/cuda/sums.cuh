// The second pass of sums that a kernel began: it left partial sums, one or more a block, and these
// are added here. Always in the same order, so that equal inputs give equal bits.
#pragma once

#include <algorithm>

#include "element.cuh"

namespace allfocus {

// out[outer, inner], of the kernel's element type, is the sum of terms[outer, count, inner].
struct Sum {
    const float* terms;
    void* out;
    int64_t outer, count, inner;
    int ways;  // threads that share one result, a power of two
};

struct Sums {
    static constexpr int THREADS = 256, MOST_WAYS = 64;
    Sum at[3];
    int count = 0;

    void add(const float* terms, void* out, int64_t outer, int64_t terms_each, int64_t inner) {
        int ways = 1;
        while (ways < MOST_WAYS && ways < terms_each) ways *= 2;
        at[count++] = {terms, out, outer, terms_each, inner, ways};
    }
};

// Block (x, y) makes some results of sum number y: neighbouring ones, for whole cache lines.
template <typename T>
__global__ void __launch_bounds__(Sums::THREADS) finish_sums(const __grid_constant__ Sums sums) {
    __shared__ float partial[Sums::THREADS];
    const Sum& sum = sums.at[blockIdx.y];
    const int thread = threadIdx.x, lanes = Sums::THREADS / sum.ways;
    const int64_t results = sum.outer * sum.inner, first = int64_t(blockIdx.x) * lanes;
    if (first >= results) return;  // the block: other sums have more results
    const int64_t index = min(first + thread % lanes, results - 1);
    const float* terms =
        sum.terms + index / sum.inner * sum.count * sum.inner + index % sum.inner;
    float own = 0;
#pragma unroll 4
    for (int64_t k = thread / lanes; k < sum.count; k += sum.ways) own += terms[k * sum.inner];
    partial[thread] = own;
    for (int half = Sums::THREADS / 2; half >= lanes; half /= 2) {
        __syncthreads();
        if (thread < half) partial[thread] += partial[thread + half];
    }
    if (thread < lanes && first + thread < results)
        store(static_cast<T*>(sum.out) + index, partial[thread]);
}

template <typename T>
int launch_sums(const Sums& sums, allfocus_stream stream) {
    int64_t blocks = 0;
    for (int i = 0; i < sums.count; ++i) {
        const int64_t lanes = Sums::THREADS / sums.at[i].ways;
        blocks = std::max(blocks, (sums.at[i].outer * sums.at[i].inner - 1) / lanes + 1);
    }
    if (blocks == 0) return cudaSuccess;
    if (blocks > INT32_MAX) return cudaErrorInvalidValue;
    return launch(finish_sums<T>, dim3(unsigned(blocks), unsigned(sums.count)),
                  dim3(Sums::THREADS), stream, sums);
}

}  // namespace allfocus
