// How the SFT kernels look at tensors: as rows of neighbouring elements, whatever the layout.
//
// In NCHW a row is a channel's plane and its columns are pixels; in NHWC a row is a pixel and its
// columns are channels. What varies with one of the two only, gamma [n, c] or gamma_s [n, pixels],
// is then an element for each row or for each column, and one kernel serves both layouts.
#pragma once

#include <algorithm>

#include "element.cuh"

namespace allfocus {
namespace sft {

constexpr int THREADS = 256;

enum class Form { ABSENT, BY_ROW, BY_COLUMN, FULL };

// The forms of one call's operands.
template <bool CHANNELS_LAST, bool GAMMA_FULL, bool SPATIAL, bool BETA_FULL>
struct Forms {
    static constexpr Form channels = CHANNELS_LAST ? Form::BY_COLUMN : Form::BY_ROW;
    static constexpr Form pixels = CHANNELS_LAST ? Form::BY_ROW : Form::BY_COLUMN;
    static constexpr Form gamma = GAMMA_FULL ? Form::FULL : channels;
    static constexpr Form gamma_s = SPATIAL ? pixels : Form::ABSENT;
    static constexpr Form beta = BETA_FULL ? Form::FULL : channels;
};

// Columns are counted in packs of neighbouring elements, moved in one access. Offsets are too: of
// the sums of an offset in elements the compiler makes a store for each element. Sizes stay below
// 2^31: 32-bit factors make 64-bit offsets cheap.
struct View {
    unsigned images, rows, columns;
};

inline bool countable(int64_t size) { return 1 <= size && size <= INT32_MAX; }

// In elements.
inline View view_of(int layout, int64_t n, int64_t channels, int64_t pixels) {
    if (layout == ALLFOCUS_NHWC) std::swap(channels, pixels);
    return {unsigned(n), unsigned(channels), unsigned(pixels)};
}

template <typename T, int WIDTH>
struct alignas(sizeof(T) * WIDTH) Pack {
    T at[WIDTH];
};

// The tiles of a view, one a block. A block is blockDim.x packs wide, a power of two, and covers
// blockDim.y rows several times. Blocks are numbered along one axis: its limit is 2^31.
struct Tiling {
    dim3 block;
    unsigned across, down;
    int64_t count;

    // widest: columns of a block, at most; times: rows of a thread.
    Tiling(const View& view, unsigned widest, unsigned times) {
        block.x = 1;
        while (block.x < widest && block.x < view.columns) block.x *= 2;
        block.y = THREADS / block.x;
        across = (view.columns - 1) / block.x + 1;
        down = (view.rows - 1) / (block.y * times) + 1;
        const int64_t tiles = int64_t(across) * down;
        count = tiles > INT32_MAX ? tiles : tiles * view.images;
    }

    bool fits() const { return count <= INT32_MAX; }
};

// This block's tile: which one across, and which strip of tiles, counted through all images.
struct Tile {
    unsigned column, strip;

    __device__ __forceinline__ explicit Tile(unsigned across)
        : column(blockIdx.x % across), strip(blockIdx.x / across) {}
};

// Where a thread stands.
struct Place {
    unsigned image, row, column;
};

// This thread's first place in the tile; it may lie outside of the view.
template <int TIMES>
__device__ __forceinline__ Place first_place(const Tile& tile, unsigned down) {
    Place place;
    place.image = tile.strip / down;
    place.row = tile.strip % down * blockDim.y * TIMES + threadIdx.y;
    place.column = tile.column * blockDim.x + threadIdx.x;
    return place;
}

// In sums of products, of which a loop over rows needs to make one anew.
template <Form FORM>
__device__ __forceinline__ int64_t offset_of(const View& view, const Place& place) {
    const int64_t image = place.image, rows = view.rows, columns = view.columns;
    if (FORM == Form::BY_ROW) return image * rows + place.row;
    if (FORM == Form::BY_COLUMN) return image * columns + place.column;
    return image * rows * columns + place.column + place.row * columns;
}

// What a thread holds of an operand at a place: a pack, or the one element that stands for it.
template <Form FORM, typename T, int WIDTH>
struct Piece {
    static constexpr int HELD = FORM == Form::BY_ROW ? 1 : WIDTH;
    Pack<T, HELD> pack;

    __device__ __forceinline__ void load(const T* data, const View& view, const Place& place) {
        pack = reinterpret_cast<const Pack<T, HELD>*>(data)[offset_of<FORM>(view, place)];
    }
    __device__ __forceinline__ float operator[](int i) const {
        return to_float(pack.at[HELD == 1 ? 0 : i]);
    }
};
template <typename T, int WIDTH>
struct Piece<Form::ABSENT, T, WIDTH> {
    __device__ __forceinline__ void load(const T*, const View&, const Place&) {}
    __device__ __forceinline__ float operator[](int) const { return 1; }
};

template <typename T, int WIDTH>
__device__ __forceinline__ void store_pack(T* data, int64_t offset, const float (&values)[WIDTH]) {
    Pack<T, WIDTH> pack;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) store(&pack.at[i], values[i]);
    reinterpret_cast<Pack<T, WIDTH>*>(data)[offset] = pack;
}

// Where all operands are of full size, as many rows as a pack has elements are taken for one: odd
// pictures then need no scalar access.
template <typename FORMS>
View joined(View view, unsigned width) {
    const bool all_full = FORMS::gamma == Form::FULL && FORMS::gamma_s == Form::ABSENT &&
                          FORMS::beta == Form::FULL;
    const int64_t rows = int64_t(view.images) * view.rows;
    if (!all_full || view.columns % width == 0 || rows % width != 0 || rows > INT32_MAX ||
        int64_t(view.columns) * width > INT32_MAX)
        return view;
    return {1, unsigned(rows / width), view.columns * width};
}

// slope * value, but 0 where the slope is 0, be the value infinite or NaN. By a mask that the host
// makes: where a kernel chooses, the compiler makes two of it, with copies of what is loaded.
struct Leak {
    float slope;
    unsigned kept;  // bits

    explicit Leak(float slope) : slope(slope), kept(slope == 0 ? 0 : ~0u) {}
    __device__ __forceinline__ float operator()(float value) const {
        return __uint_as_float(__float_as_uint(value * slope) & kept);
    }
};

// Whether none of the addresses is off a multiple of `bytes`; null is none.
template <typename... Pointers>
bool aligned(size_t bytes, const Pointers*... pointers) {
    return ((reinterpret_cast<uintptr_t>(pointers) | ...) & (bytes - 1)) == 0;
}

template <typename F>
int by_flag(bool flag, F f) {
    return flag ? f(std::true_type()) : f(std::false_type());
}

// f(Forms<...>) with the forms that the flags name.
template <typename F>
int by_forms(bool channels_last, bool gamma_full, bool spatial, bool beta_full, F f) {
    return by_flag(channels_last, [&](auto last) {
        return by_flag(gamma_full, [&](auto gamma) {
            return by_flag(spatial, [&](auto space) {
                return by_flag(beta_full, [&](auto beta) {
                    return f(Forms<decltype(last)::value, decltype(gamma)::value,
                                   decltype(space)::value, decltype(beta)::value>());
                });
            });
        });
    });
}

}  // namespace sft
}  // namespace allfocus
