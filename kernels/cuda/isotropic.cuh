// Isotropic kernels of a pixel (JDRL, eq. 7), with the geometry worked out by the compiler.
//
// A kernel of level i has (2i-1)^2 elements but i(i+1)/2 distinct ones: rings (dy, dx) with
// 0 <= dy <= dx < i, of 1, 4 or 8 equal elements. All levels of a pixel are convolved with the same
// image, so their kernels are added up first, each times its weight: 36 numbers for 8 levels, held
// in registers, instead of 679.
#pragma once

#include <utility>

#include "element.cuh"

namespace allfocus {

constexpr int LEVELS = 8;                            // of the fast kernels; others take any number
constexpr int MARGIN = LEVELS - 1;                   // pixels that a kernel reaches
constexpr int SPAN = 2 * LEVELS - 1;                 // elements in a kernel's row
constexpr int RINGS = LEVELS * (LEVELS + 1) / 2;

constexpr float LOG2_E = 1.44269504088896f;  // exp(x) = exp2(x * LOG2_E): exp2 is an instruction

// An int that is part of its type. (The standard's integral_constant cannot be called on a GPU.)
template <int I>
struct Constant {
    static constexpr int value = I;
    __host__ __device__ constexpr operator int() const { return I; }
};

// f(Constant<0>) ... f(Constant<N-1>): a loop whose index is a constant, so that arrays it indexes
// stay in registers.
template <typename F, int... I>
__device__ __forceinline__ void static_for(F f, std::integer_sequence<int, I...>) {
    (f(Constant<I>()), ...);
}
template <int N, typename F>
__device__ __forceinline__ void static_for(F f) {
    static_for(f, std::make_integer_sequence<int, N>());
}

__host__ __device__ constexpr int absolute(int x) { return x < 0 ? -x : x; }

// The ring of the element at (y, x) from the centre.
__host__ __device__ constexpr int ring_at(int y, int x) {
    const int a = absolute(y), b = absolute(x);
    return a < b ? b * (b + 1) / 2 + a : a * (a + 1) / 2 + b;
}

// Equal elements in the ring (dy, dx).
__host__ __device__ constexpr int ring_size(int dy, int dx) {
    return dx == 0 ? 1 : dy == 0 || dy == dx ? 4 : 8;
}

__host__ __device__ constexpr int integer_root(int square) {
    int root = 0;
    while ((root + 1) * (root + 1) <= square) ++root;
    return root;
}

__host__ __device__ constexpr double root_of(int square) {
    double root = square > 1 ? square : 1;
    for (int step = 0; step < 64; ++step) root = 0.5 * (root + square / root);
    return square ? root : 0;
}

// Ring number INDEX, in the order of ring_at.
template <int INDEX>
struct Ring {
    static constexpr int dx = (integer_root(8 * INDEX + 1) - 1) / 2;
    static constexpr int dy = INDEX - dx * (dx + 1) / 2;
    static constexpr int square = dx * dx + dy * dy;
    static constexpr int count = ring_size(dy, dx);
    static constexpr int inner = integer_root(square);  // its value lies between seeds inner, inner+1
    static constexpr float fraction = float(root_of(square) - inner);

    __host__ __device__ static constexpr bool inside(int level) { return square <= (level - 1) * (level - 1); }
};

// Elements of a level's kernel that lie farther out than its last seed: each is exp(0).
template <int LEVEL>
__host__ __device__ constexpr int count_outside() {
    int count = 0;
    for (int y = 1 - LEVEL; y < LEVEL; ++y)
        for (int x = 1 - LEVEL; x < LEVEL; ++x) count += y * y + x * x > (LEVEL - 1) * (LEVEL - 1);
    return count;
}

// Where the seeds of a level begin among a pixel's.
__host__ __device__ constexpr int first_seed(int level) { return level * (level - 1) / 2 - 1; }

// One level's kernel at one pixel before its division by `total`: the softmax is value / total.
template <int LEVEL>
struct Softmax {
    static constexpr int RINGS = LEVEL * (LEVEL + 1) / 2;
    float value[RINGS];  // of the rings inside; those outside are `rest`
    float rest;
    float total;

    // seeds: of this pixel, `plane` elements apart.
    template <typename T>
    __device__ __forceinline__ Softmax(const T* seeds, int64_t plane) {
        float radial[LEVEL];
        float highest = 0;
        static_for<LEVEL>([&](auto i) {
            radial[i] = LOG2_E * fabsf(to_float(seeds[(first_seed(LEVEL) + i) * plane]));
            highest = fmaxf(highest, radial[i]);
        });
        rest = exp2f(-highest);
        total = count_outside<LEVEL>() * rest;
        static_for<RINGS>([&](auto i) {
            using R = Ring<decltype(i)::value>;
            if constexpr (R::inside(LEVEL)) {
                float at = radial[R::inner];
                if constexpr (R::fraction > 0) at += R::fraction * (radial[R::inner + 1] - at);
                value[i] = exp2f(at - highest);
                total += R::count * value[i];
            }
        });
    }

    template <int INDEX>
    __device__ __forceinline__ float at() const {
        return Ring<INDEX>::inside(LEVEL) ? value[INDEX] : rest;
    }
};

// All levels' kernels of one pixel, each times its weight, added up ring by ring.
template <typename T>
__device__ __forceinline__ void mix_kernels(const T* seeds, const T* weights, int64_t plane,
                                            float (&mixed)[RINGS]) {
    static_for<LEVELS - 1>([&](auto k) {
        constexpr int level = LEVELS - decltype(k)::value;  // the widest first: it fills `mixed`
        const Softmax<level> kernel(seeds, plane);
        const float share = to_float(weights[(level - 1) * plane]) / kernel.total;
        static_for<level*(level + 1) / 2>([&](auto i) {
            const float term = share * kernel.template at<decltype(i)::value>();
            mixed[i] = level == LEVELS ? term : mixed[i] + term;
        });
    });
    mixed[0] += to_float(weights[0]);  // level 1 is the image itself
}

// A picture cut into tiles, one a block; blocks are numbered along one axis, whose limit is 2^31.
struct Tiles {
    int across, down;

    __host__ __device__ Tiles(int64_t height, int64_t width, int tile_height, int tile_width)
        : across(int((width + tile_width - 1) / tile_width)),
          down(int((height + tile_height - 1) / tile_height)) {}
};

// What the fast kernels are told of their tensors.
struct Problem {
    int64_t channels, plane;
    int height, width;
    Tiles tiles;
};

// A block's tile: its picture in the batch, and its corner there.
struct Corner {
    int64_t n;
    int top, left;
};

__device__ __forceinline__ Corner own_tile(const Tiles& tiles, int tile_height, int tile_width) {
    return {blockIdx.x / tiles.across / tiles.down,
            int(blockIdx.x / tiles.across % tiles.down) * tile_height,
            int(blockIdx.x % tiles.across) * tile_width};
}

// Copy one channel around a tile to shared memory as float, with zeros outside the picture.
template <int ROWS, int COLUMNS, typename T>
__device__ __forceinline__ void load_tile(float (&tile)[ROWS][COLUMNS], const T* channel, int top,
                                          int left, int height, int width, int thread,
                                          int threads) {
    for (int i = thread; i < ROWS * COLUMNS; i += threads) {
        const int row = i / COLUMNS, column = i % COLUMNS;
        const int y = top + row, x = left + column;
        const bool in = y >= 0 && y < height && x >= 0 && x < width;
        tile[row][column] = in ? to_float(channel[int64_t(y) * width + x]) : 0.0f;
    }
}

}  // namespace allfocus
