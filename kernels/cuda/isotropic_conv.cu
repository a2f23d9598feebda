// Isotropic per-pixel convolution, forward, 8 levels.
//
// A thread makes two pixels, one above the other: a row of the image read from shared memory serves
// both, which nearly halves the traffic that would bound the kernel. Their 2 x 36 kernel values stay
// in registers for all channels. The picture with its margin comes to shared memory four channels at
// a time, as float.
#include "isotropic.cuh"
#include "isotropic_any.h"

namespace allfocus {
namespace {

constexpr int WIDTH = 32, ROWS = 8, PER_THREAD = 2, HEIGHT = ROWS * PER_THREAD;
constexpr int CHANNELS = 4;  // in shared memory at once

using Tile = float[HEIGHT + 2 * MARGIN][WIDTH + 2 * MARGIN];

// The sum of kernel times image for the thread's upper and lower pixel.
__device__ __forceinline__ void convolve(const Tile& tile, const float (&upper)[RINGS],
                                         const float (&lower)[RINGS], float& up, float& low) {
    const int top = threadIdx.y * PER_THREAD, left = threadIdx.x;
    up = low = 0;
    static_for<SPAN + 1>([&](auto row) {
        static_for<SPAN>([&](auto column) {
            constexpr int y = decltype(row)::value - MARGIN, x = decltype(column)::value - MARGIN;
            const float pixel = tile[top + row][left + column];
            if constexpr (y <= MARGIN) up += upper[ring_at(y, x)] * pixel;
            if constexpr (y > -MARGIN) low += lower[ring_at(y - 1, x)] * pixel;
        });
    });
}

template <typename T>
__global__ void __launch_bounds__(WIDTH* ROWS, 2)
    forward(const T* __restrict__ image, const T* __restrict__ seeds,
            const T* __restrict__ weights, T* __restrict__ out, Problem p) {
    __shared__ Tile tiles[CHANNELS];
    const auto [n, top, left] = own_tile(p.tiles, HEIGHT, WIDTH);
    const int x = left + int(threadIdx.x), y = top + int(threadIdx.y) * PER_THREAD;
    // Threads beyond the border work on the last pixel: they are needed at the barriers.
    const int inner_x = min(x, p.width - 1);
    float upper[RINGS], lower[RINGS];
    const int64_t one = int64_t(min(y, p.height - 1)) * p.width + inner_x;
    const int64_t two = int64_t(min(y + 1, p.height - 1)) * p.width + inner_x;
    const T* seed = seeds + n * first_seed(LEVELS + 1) * p.plane;
    const T* weight = weights + n * LEVELS * p.plane;
    mix_kernels(seed + one, weight + one, p.plane, upper);
    mix_kernels(seed + two, weight + two, p.plane, lower);
    for (int64_t first = 0; first < p.channels; first += CHANNELS) {
        const int count = int(min(int64_t(CHANNELS), p.channels - first));
        const T* channel = image + (n * p.channels + first) * p.plane;
        for (int c = 0; c < count; ++c)
            load_tile(tiles[c], channel + c * p.plane, top - MARGIN, left - MARGIN, p.height,
                      p.width, threadIdx.y * WIDTH + threadIdx.x, WIDTH * ROWS);
        __syncthreads();
        T* target = out + (n * p.channels + first) * p.plane + int64_t(y) * p.width + x;
        for (int c = 0; c < count; ++c, target += p.plane) {
            float up, low;
            convolve(tiles[c], upper, lower, up, low);
            if (x < p.width && y < p.height) store(target, up);
            if (x < p.width && y + 1 < p.height) store(target + p.width, low);
        }
        __syncthreads();  // before the next channels overwrite the tiles
    }
}

template <typename T>
int run(const T* image, const T* seeds, const T* weights, T* out, int64_t n, const Problem& p,
        allfocus_stream stream) {
    const int64_t blocks = n * p.tiles.across * p.tiles.down;
    if (blocks > INT32_MAX) return cudaErrorInvalidValue;
    return launch(forward<T>, dim3(unsigned(blocks)), dim3(WIDTH, ROWS), stream, image, seeds,
                  weights, out, p);
}

}  // namespace
}  // namespace allfocus

int allfocus_isotropic_conv(const void* image, const void* seeds, const void* weights, void* out,
                            int dtype, int64_t n, int64_t channels, int64_t height, int64_t width,
                            int64_t levels, allfocus_stream stream) {
    using namespace allfocus;
    if (n < 1 || channels < 1 || height < 1 || width < 1 || levels < 2 ||
        height > INT32_MAX / width)
        return cudaErrorInvalidValue;
    const Problem p = {channels, height * width, int(height), int(width),
                       Tiles(height, width, HEIGHT, WIDTH)};
    return by_dtype(dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        const auto* i = static_cast<const T*>(image);
        const auto* s = static_cast<const T*>(seeds);
        const auto* w = static_cast<const T*>(weights);
        auto* o = static_cast<T*>(out);
        if (levels == LEVELS) return run(i, s, w, o, n, p, stream);
        return forward_any(i, s, w, o, Any{n, channels, p.height, p.width, int(levels)}, stream);
    });
}
