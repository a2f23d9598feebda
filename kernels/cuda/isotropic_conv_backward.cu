// Gradients of isotropic per-pixel convolution, 8 levels.
//
// Nothing of the forward pass is kept: kernels are computed anew. No atomics; sums have a fixed
// order, so equal inputs give equal bits.
#include "isotropic.cuh"
#include "isotropic_any.h"

namespace allfocus {
namespace {

// ---- To seeds and weights -------------------------------------------------------------------
//
// The result is a sum over rings of kernel value times the image's ring sum. So the gradient to a
// kernel value is its "pull", grad_out times the ring sum, over all channels: 36 numbers a pixel,
// from which all levels' gradients follow.

constexpr int WIDTH = 32, HEIGHT = 8, CHANNELS = 4;

using Tile = float[HEIGHT + 2 * MARGIN][WIDTH + 2 * MARGIN];

__device__ __forceinline__ void add_pulls(const Tile& tile, float grad, float (&pull)[RINGS]) {
    static_for<SPAN>([&](auto row) {
        static_for<SPAN>([&](auto column) {
            constexpr int y = decltype(row)::value - MARGIN, x = decltype(column)::value - MARGIN;
            pull[ring_at(y, x)] += grad * tile[threadIdx.y + row][threadIdx.x + column];
        });
    });
}

// One level's gradients at one pixel. The softmax's derivative: a ring's logit moves the result by
// weight * value / total * (its pull - its size * the mean pull).
template <int LEVEL, typename T>
__device__ __forceinline__ void level_gradients(const T* seeds, const T* weights,
                                                const float (&pull)[RINGS], int64_t plane,
                                                T* grad_seeds, T* grad_weights) {
    constexpr int COUNT = LEVEL * (LEVEL + 1) / 2;
    const Softmax<LEVEL> kernel(seeds, plane);
    float mean = 0;
    static_for<COUNT>(
        [&](auto i) { mean += kernel.template at<decltype(i)::value>() * pull[i]; });
    mean /= kernel.total;
    store(&grad_weights[(LEVEL - 1) * plane], mean);
    const float share = to_float(weights[(LEVEL - 1) * plane]) / kernel.total;
    float grad[LEVEL] = {};
    static_for<COUNT>([&](auto i) {
        using R = Ring<decltype(i)::value>;
        if constexpr (R::inside(LEVEL)) {
            const float logit = share * kernel.value[i] * (pull[i] - R::count * mean);
            grad[R::inner] += (1 - R::fraction) * logit;
            if constexpr (R::fraction > 0) grad[R::inner + 1] += R::fraction * logit;
        }
    });
    static_for<LEVEL>([&](auto i) {
        const int64_t place = (first_seed(LEVEL) + i) * plane;
        const float seed = to_float(seeds[place]);
        store(&grad_seeds[place], seed > 0 ? grad[i] : seed < 0 ? -grad[i] : 0.0f);
    });
}

template <typename T>
__global__ void __launch_bounds__(WIDTH* HEIGHT, 2)
    parameter_gradients(const T* __restrict__ grad_out, const T* __restrict__ image,
                        const T* __restrict__ seeds, const T* __restrict__ weights,
                        T* __restrict__ grad_seeds, T* __restrict__ grad_weights, Problem p) {
    __shared__ Tile tiles[CHANNELS];
    const Corner tile = own_tile(p.tiles, HEIGHT, WIDTH);
    const int x = tile.left + int(threadIdx.x), y = tile.top + int(threadIdx.y);
    const bool mine = x < p.width && y < p.height;
    const int64_t place = mine ? int64_t(y) * p.width + x : 0;
    float pull[RINGS] = {};
    for (int64_t first = 0; first < p.channels; first += CHANNELS) {
        const int count = int(min(int64_t(CHANNELS), p.channels - first));
        const int64_t offset = (tile.n * p.channels + first) * p.plane;
        for (int c = 0; c < count; ++c)
            load_tile(tiles[c], image + offset + c * p.plane, tile.top - MARGIN,
                      tile.left - MARGIN, p.height, p.width, threadIdx.y * WIDTH + threadIdx.x,
                      WIDTH * HEIGHT);
        __syncthreads();
        for (int c = 0; c < count; ++c)
            add_pulls(tiles[c], to_float(grad_out[offset + c * p.plane + place]), pull);
        __syncthreads();  // before the next channels overwrite the tiles
    }
    if (!mine) return;
    const int64_t seed = tile.n * first_seed(LEVELS + 1) * p.plane + place;
    const int64_t weight = tile.n * LEVELS * p.plane + place;
    store(&grad_weights[weight], pull[0]);
    static_for<LEVELS - 1>([&](auto k) {
        level_gradients<decltype(k)::value + 2>(seeds + seed, weights + weight, pull, p.plane,
                                                grad_seeds + seed, grad_weights + weight);
    });
}

// ---- To the image ---------------------------------------------------------------------------
//
// A pixel's gradient gathers from all pixels whose kernels reach it. A kernel is the same r rows up
// and down, so a source row's contribution to the rows r above and r below is one sum along the
// row: SIDE x SIDE pixels of the gradient take the rows around them a few at a time; kernels of a
// row are computed once, warp r makes the sums for distance r, and each thread adds what its own
// four pixels need.

constexpr int SIDE = 32, WARPS = 8, THREADS = 32 * WARPS;
constexpr int AROUND = SIDE + 2 * MARGIN;       // source rows and columns that reach the tile
constexpr int AT_ONCE = THREADS / AROUND;       // source rows worked on together: a thread a pixel
constexpr int OWN = SIDE / WARPS;               // pixels of a thread
static_assert(WARPS == LEVELS, "warp r makes the sums for distance r");

struct Rows {
    float kernel[RINGS][AT_ONCE][AROUND];
    float grad[AT_ONCE][AROUND];
    float sum[LEVELS][AT_ONCE][SIDE];
};

// Along each source row: the sum of kernel at distance r times gradient, around each column.
__device__ __forceinline__ void sum_along(Rows& rows, int column, int r) {
    static_for<LEVELS>([&](auto distance) {
        constexpr int y = decltype(distance)::value;
        if (r != y) return;  // the same for a whole warp; a constant index for the compiler
        for (int row = 0; row < AT_ONCE; ++row) {
            float sum = 0;
            static_for<SPAN>([&](auto i) {
                constexpr int x = decltype(i)::value - MARGIN;
                sum += rows.kernel[ring_at(y, x)][row][column + i] * rows.grad[row][column + i];
            });
            rows.sum[y][row][column] = sum;
        }
    });
}

template <typename T>
__global__ void __launch_bounds__(THREADS, 1)
    image_gradient(const T* __restrict__ grad_out, const T* __restrict__ seeds,
                   const T* __restrict__ weights, T* __restrict__ grad_image, Problem p) {
    __shared__ Rows rows;
    const Corner tile = own_tile(p.tiles, SIDE, SIDE);
    const int column = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int source_row = threadIdx.x / AROUND, source_column = threadIdx.x % AROUND;
    for (int64_t first = 0; first < p.channels; first += CHANNELS) {
        float own[OWN][CHANNELS] = {};
        for (int base = 0; base < AROUND; base += AT_ONCE) {
            const int y = tile.top - MARGIN + base + source_row;
            const int x = tile.left - MARGIN + source_column;
            const bool in = source_row < AT_ONCE && y >= 0 && y < p.height && x >= 0 &&
                            x < p.width;
            const int64_t place = in ? int64_t(y) * p.width + x : 0;
            float mixed[RINGS] = {};
            if (in)
                mix_kernels(seeds + tile.n * first_seed(LEVELS + 1) * p.plane + place,
                            weights + tile.n * LEVELS * p.plane + place, p.plane, mixed);
            if (source_row < AT_ONCE)
                static_for<RINGS>(
                    [&](auto i) { rows.kernel[i][source_row][source_column] = mixed[i]; });
            static_for<CHANNELS>([&](auto c) {
                if (first + c >= p.channels) return;
                const T* grad = grad_out + (tile.n * p.channels + first + c) * p.plane;
                if (source_row < AT_ONCE)
                    rows.grad[source_row][source_column] = in ? to_float(grad[place]) : 0.0f;
                __syncthreads();
                sum_along(rows, column, warp);
                __syncthreads();
                static_for<OWN>([&](auto j) {
                    for (int row = 0; row < AT_ONCE; ++row) {
                        const int far = absolute(warp + WARPS * j + MARGIN - (base + row));
                        if (far <= MARGIN) own[j][c] += rows.sum[far][row][column];
                    }
                });
            });
            // No barrier: what the next rows overwrite first, all have read before the last one.
        }
        const int x = tile.left + column;
        static_for<OWN>([&](auto j) {
            const int y = tile.top + warp + WARPS * j;
            static_for<CHANNELS>([&](auto c) {
                const int64_t channel = tile.n * p.channels + first + c;
                if (first + c < p.channels && y < p.height && x < p.width)
                    store(&grad_image[channel * p.plane + int64_t(y) * p.width + x], own[j][c]);
            });
        });
    }
}

Problem problem(const Any& a, int height, int width) {
    return {a.channels, a.plane(), a.height, a.width, Tiles(a.height, a.width, height, width)};
}

template <typename T>
int backward(const T* grad_out, const T* image, const T* seeds, const T* weights, T* grad_image,
             T* grad_seeds, T* grad_weights, const Any& a, allfocus_stream stream) {
    int status = cudaSuccess;
    if (grad_image) {
        const Problem p = problem(a, SIDE, SIDE);
        const int64_t blocks = a.n * p.tiles.across * p.tiles.down;
        if (blocks > INT32_MAX) return cudaErrorInvalidValue;
        status = launch(image_gradient<T>, unsigned(blocks), THREADS, stream, grad_out, seeds,
                        weights, grad_image, p);
    }
    if (grad_seeds && status == cudaSuccess) {
        const Problem p = problem(a, HEIGHT, WIDTH);
        const int64_t blocks = a.n * p.tiles.across * p.tiles.down;
        if (blocks > INT32_MAX) return cudaErrorInvalidValue;
        status = launch(parameter_gradients<T>, unsigned(blocks), dim3(WIDTH, HEIGHT), stream,
                        grad_out, image, seeds, weights, grad_seeds, grad_weights, p);
    }
    return status;
}

}  // namespace
}  // namespace allfocus

size_t allfocus_isotropic_conv_workspace(int64_t n, int64_t height, int64_t width,
                                         int64_t levels) {
    if (levels == allfocus::LEVELS) return 0;
    return sizeof(float) * 2 * size_t(n) * size_t(levels) * size_t(height) * size_t(width);
}

int allfocus_isotropic_conv_backward(const void* grad_out, const void* image, const void* seeds,
                                     const void* weights, void* grad_image, void* grad_seeds,
                                     void* grad_weights, void* workspace, int dtype, int64_t n,
                                     int64_t channels, int64_t height, int64_t width,
                                     int64_t levels, allfocus_stream stream) {
    using namespace allfocus;
    if (n < 1 || channels < 1 || height < 1 || width < 1 || levels < 2 ||
        height > INT32_MAX / width || !grad_seeds != !grad_weights)
        return cudaErrorInvalidValue;
    const Any a = {n, channels, int(height), int(width), int(levels)};
    return by_dtype(dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        const auto* g = static_cast<const T*>(grad_out);
        const auto* i = static_cast<const T*>(image);
        const auto* s = static_cast<const T*>(seeds);
        const auto* w = static_cast<const T*>(weights);
        auto* to_image = static_cast<T*>(grad_image);
        auto* to_seeds = static_cast<T*>(grad_seeds);
        auto* to_weights = static_cast<T*>(grad_weights);
        if (levels == LEVELS) return backward(g, i, s, w, to_image, to_seeds, to_weights, a, stream);
        return backward_any(g, i, s, w, to_image, to_seeds, to_weights,
                            static_cast<float*>(workspace), a, stream);
    });
}
