// A block's threads as fibers of one system thread, switched at barriers and warp shuffles only.
#pragma once

#include <link.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Two such libraries in one process share nothing.
#pragma GCC visibility push(hidden)

namespace cpu {

struct Barrier {
    int expected = 0, arrived = 0;
    long generation = 0;
};

struct Fiber {
    static constexpr size_t STACK = 128 * 1024;
    std::unique_ptr<char[]> stack;  // none until its first block
    ucontext_t start;  // used once: switching by setjmp is quicker, it makes no system call
    jmp_buf place;
    bool done = true;
};

inline dim3 thread_index, block_index, block_size, grid_size;
inline jmp_buf scheduler;
inline Fiber* current = nullptr;
inline Barrier block_barrier;
inline std::vector<Barrier> warp_barriers;
inline std::vector<uint64_t> exchange;  // a slot for each thread of the block, for shuffles
inline std::function<void()> body;
inline long steps = 0;  // barriers passed and threads ended: without any, a block waits for ever
inline std::mutex launching;  // one grid at a time, whichever system thread asks

inline unsigned rank() {
    return (thread_index.z * block_size.y + thread_index.y) * block_size.x + thread_index.x;
}

inline void yield() {
    if (!_setjmp(current->place)) _longjmp(scheduler, 1);
}

inline void release_if_full(Barrier& barrier) {
    if (barrier.arrived >= barrier.expected) {
        barrier.arrived = 0;
        ++barrier.generation;
        ++steps;
    }
}

inline void wait(Barrier& barrier) {
    const long generation = barrier.generation;
    ++barrier.arrived;
    release_if_full(barrier);
    while (barrier.generation == generation) yield();
}

inline void leave(Barrier& barrier) {
    --barrier.expected;
    if (barrier.arrived) release_if_full(barrier);
}

// A fiber lives as long as the program, and runs the body once for each block.
inline void run_fiber() {
    for (;;) {
        body();
        current->done = true;
        ++steps;
        leave(block_barrier);
        leave(warp_barriers[rank() / 32]);
        yield();
    }
}

// Nothing here may live across the jump: the compiler need not keep it.
__attribute__((noinline)) inline void resume(Fiber& fiber) {
    current = &fiber;
    if (_setjmp(scheduler)) return;
    if (fiber.stack) _longjmp(fiber.place, 1);
    fiber.stack.reset(new char[Fiber::STACK]);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = Fiber::STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, run_fiber, 0);
    setcontext(&fiber.start);
}

// __shared__ arrays are thread_local, so that the loader knows where they all lie, those in
// templates too. `probe` is one more: it makes the loader allocate them, and marks which are ours.
inline thread_local char probe;
inline char* shared_start;
inline size_t shared_bytes;

inline int is_ours(dl_phdr_info* library, size_t, void* address) {
    shared_start = static_cast<char*>(library->dlpi_tls_data);
    for (int i = 0; shared_start && i < library->dlpi_phnum; ++i) {
        if (library->dlpi_phdr[i].p_type != PT_TLS) continue;
        shared_bytes = library->dlpi_phdr[i].p_memsz;
        return size_t(static_cast<char*>(address) - shared_start) < shared_bytes;
    }
    return 0;
}

// False where some threads wait at a barrier that the others never reach.
inline bool run_block() {
    const unsigned threads = block_size.x * block_size.y * block_size.z;
    static std::vector<Fiber> fibers(1024);
    block_barrier = Barrier{int(threads)};
    warp_barriers.assign((threads + 31) / 32, Barrier{});
    for (unsigned i = 0; i < threads; ++i) ++warp_barriers[i / 32].expected;
    exchange.assign(threads, 0);
    memset(shared_start, 0xFF, shared_bytes);
    for (unsigned i = 0; i < threads; ++i) fibers[i].done = false;
    for (unsigned left = threads; left;) {
        const long before = steps;
        left = 0;
        for (unsigned i = 0; i < threads; ++i) {
            if (fibers[i].done) continue;
            thread_index = dim3(i % block_size.x, i / block_size.x % block_size.y,
                                i / block_size.x / block_size.y);
            resume(fibers[i]);
            left += !fibers[i].done;
        }
        if (steps == before) return false;
    }
    return true;
}

// False from the first failure on: as on a GPU, nothing runs after it.
inline bool run_grid(dim3 grid, dim3 block) {
    static bool sound = true;
    sound = sound && dl_iterate_phdr(is_ours, &probe);  // each system thread has its own
    grid_size = grid;
    block_size = block;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x && sound; ++x) {
                block_index = dim3(x, y, z);
                sound = run_block();
            }
    return sound;
}

template <typename T>
T shuffle(T value, unsigned lane) {
    static_assert(sizeof(T) <= 8);
    const unsigned mine = rank(), first = mine / 32 * 32;
    memcpy(&exchange[mine], &value, sizeof(T));
    wait(warp_barriers[mine / 32]);
    T out;
    memcpy(&out, &exchange[first + (lane & 31)], sizeof(T));
    wait(warp_barriers[mine / 32]);
    return out;
}

}  // namespace cpu

#pragma GCC visibility pop
