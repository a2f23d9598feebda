// Where the gradient of an operand goes, by its form: what is of full size is stored at once; what
// stands for a row or for a column is summed within a tile, and sums.cuh adds the tiles up.
#pragma once

#include "sft_view.cuh"

namespace allfocus {
namespace sft {

constexpr int WARP = 32;

// The methods that a form has no need of. A row of a tile lies within a warp: all threads of a warp
// call end_row, and all of a block end_tile. `inside`: whether the place is part of the view.
struct NoGradient {
    __device__ __forceinline__ explicit NoGradient(void*) {}
    __device__ __forceinline__ void add(int, float) {}
    __device__ __forceinline__ void end_row(const View&, const Tile&, const Place&, bool) {}
    template <typename Exchange>
    __device__ __forceinline__ void end_tile(const View&, const Tile&, const Place&, Exchange&) {}
};

// T: of the gradients. data: where to, or null where nobody wants them.
template <Form FORM, typename T, int WIDTH>
struct Gradient : NoGradient {
    using NoGradient::NoGradient;
};

template <typename T, int WIDTH>
struct Gradient<Form::FULL, T, WIDTH> : NoGradient {
    T* data;
    float values[WIDTH];

    __device__ __forceinline__ explicit Gradient(void* data)
        : NoGradient(data), data(static_cast<T*>(data)) {}
    __device__ __forceinline__ void add(int i, float value) { values[i] = value; }
    __device__ __forceinline__ void end_row(const View& view, const Tile&, const Place& place,
                                            bool inside) {
        if (data && inside) store_pack(data, offset_of<Form::FULL>(view, place), values);
    }
};

// data: partial sums [tiles across, images * rows].
template <typename T, int WIDTH>
struct Gradient<Form::BY_ROW, T, WIDTH> : NoGradient {
    float* data;
    float sum = 0;

    __device__ __forceinline__ explicit Gradient(void* data)
        : NoGradient(data), data(static_cast<float*>(data)) {}
    __device__ __forceinline__ void add(int, float value) { sum += value; }
    __device__ __forceinline__ void end_row(const View& view, const Tile& tile, const Place& place,
                                            bool) {
        if (!data) return;
#pragma unroll
        for (unsigned step = WARP / 2; step; step /= 2) {
            const float other = __shfl_xor_sync(~0u, sum, step);
            if (step < blockDim.x) sum += other;
        }
        const int64_t rows = int64_t(view.images) * view.rows;
        if (threadIdx.x == 0 && place.row < view.rows)
            data[tile.column * rows + offset_of<Form::BY_ROW>(view, place)] = sum;
        sum = 0;
    }
};

// data: partial sums [strips, columns].
template <typename T, int WIDTH>
struct Gradient<Form::BY_COLUMN, T, WIDTH> : NoGradient {
    float* data;
    float sums[WIDTH] = {};

    __device__ __forceinline__ explicit Gradient(void* data)
        : NoGradient(data), data(static_cast<float*>(data)) {}
    __device__ __forceinline__ void add(int i, float value) { sums[i] += value; }
    template <typename Exchange>
    __device__ __forceinline__ void end_tile(const View& view, const Tile& tile, const Place& place,
                                             Exchange& exchange) {
        if (!data) return;
        for (unsigned half = blockDim.y / 2; half; half /= 2) {
            if (threadIdx.y >= half && threadIdx.y < 2 * half) send(exchange, threadIdx.y - half);
            __syncthreads();
            if (threadIdx.y < half) receive(exchange);
            __syncthreads();
        }
        if (threadIdx.y == 0 && place.column < view.columns)
            store_pack(data, int64_t(tile.strip) * view.columns + place.column, sums);
    }

private:
    template <typename Exchange>
    __device__ __forceinline__ void send(Exchange& exchange, unsigned row) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) exchange[i][row * blockDim.x + threadIdx.x] = sums[i];
    }
    template <typename Exchange>
    __device__ __forceinline__ void receive(const Exchange& exchange) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i)
            sums[i] += exchange[i][threadIdx.y * blockDim.x + threadIdx.x];
    }
};

// The operands' gradients, or the partial sums of them; null where not wanted.
struct Gradients {
    void *features, *gamma, *gamma_s, *beta;
};

template <typename T, int WIDTH, typename FORMS>
struct AllGradients {
    Gradient<Form::FULL, T, WIDTH> features;
    Gradient<FORMS::gamma, T, WIDTH> gamma;
    Gradient<FORMS::gamma_s, T, WIDTH> gamma_s;
    Gradient<FORMS::beta, T, WIDTH> beta;

    __device__ __forceinline__ explicit AllGradients(const Gradients& to)
        : features(to.features), gamma(to.gamma), gamma_s(to.gamma_s), beta(to.beta) {}

    template <typename Terms>
    __device__ __forceinline__ void add(const Terms& terms, const Leak& leak) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const float shifted = terms.shifted(i, leak);
            const float scaled = shifted * terms.gamma_s[i];
            features.add(i, scaled * terms.gamma[i]);
            gamma.add(i, scaled * terms.features[i]);
            gamma_s.add(i, shifted * (terms.features[i] * terms.gamma[i]));
            beta.add(i, shifted);
        }
    }
    __device__ __forceinline__ void end_row(const View& view, const Tile& tile, const Place& place,
                                            bool inside) {
        features.end_row(view, tile, place, inside);
        gamma.end_row(view, tile, place, inside);
        gamma_s.end_row(view, tile, place, inside);
        beta.end_row(view, tile, place, inside);
    }
    template <typename Exchange>
    __device__ __forceinline__ void end_tile(const View& view, const Tile& tile, const Place& place,
                                             Exchange& exchange) {
        gamma.end_tile(view, tile, place, exchange);
        gamma_s.end_tile(view, tile, place, exchange);
        beta.end_tile(view, tile, place, exchange);
    }
};

}  // namespace sft
}  // namespace allfocus
