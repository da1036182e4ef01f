// CUDA's words for g++, so that a kernel's text runs on the CPU, barriers, shuffles and all.
//
// Every thread of a block is a fiber, a stack of its own, that runs until it waits at a barrier or ends; then the
// next one runs.  A barrier opens when all threads of the block (or of the warp, for a shuffle) wait at it.  If
// some wait where others never come, launch returns false: a GPU would hang or go on with garbage.  Each warp runs
// as far ahead of the others as barriers let it, the first one first or, backwards, the last one first: a result
// that depends on the order is a race.

#include <algorithm>
#include <cmath>
#include <complex>
#include <csetjmp>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static

using std::exp, std::fabs, std::fmax, std::fmin, std::isfinite, std::log, std::pow, std::sqrt, std::tanh;
inline double real_part(std::complex<double> x) { return x.real(); }

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace shim {

enum class State { runs, waits_for_warp, waits_for_block, ended };

const std::size_t STACK = 64 << 10;

struct Thread {
    jmp_buf place;  // where to go on
    std::unique_ptr<char[]> stack;
    State state;
    alignas(16) char shuffled[16];
};

static std::vector<Thread> threads(1024);
static jmp_buf scheduler;
static std::function<void()> body;
static unsigned current, count;

inline unsigned at(unsigned k, unsigned size, bool backwards) { return backwards ? size - 1 - k : k; }

// Back to the scheduler; returns when it lets this thread go on.
inline void wait(State state) {
    Thread& me = threads[current];
    me.state = state;
    if (!_setjmp(me.place)) _longjmp(scheduler, 1);
}

inline void live() {
    for (;;) {
        body();
        wait(State::ended);
    }
}

inline void begin(Thread& thread) {
    thread.stack.reset(new char[STACK]);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = thread.stack.get();
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, live, 0);
    setcontext(&context);
}

// Run thread t until it waits.  A fiber serves one block after another: only its first start is slow.
inline void go_on(unsigned t) {
    current = t;
    threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
    if (_setjmp(scheduler)) return;
    if (threads[t].stack) _longjmp(threads[t].place, 1);
    begin(threads[t]);
}

// Let the threads from `first` to `last` go on if all of them wait in this state.
inline bool open(unsigned first, unsigned last, State state) {
    for (unsigned t = first; t < last; t++)
        if (threads[t].state != state) return false;
    for (unsigned t = first; t < last; t++) threads[t].state = State::runs;
    return true;
}

// Run one warp as far as it gets by itself.
inline void run_warp(unsigned first, bool backwards) {
    const unsigned size = std::min(32u, count - first);
    do {
        for (unsigned k = 0; k < size; k++) {
            const unsigned t = first + at(k, size, backwards);
            if (threads[t].state == State::runs) go_on(t);
        }
    } while (size == 32 && open(first, first + 32, State::waits_for_warp));
}

inline bool run_block(bool backwards) {
    const unsigned warps = (count + 31) / 32;
    for (unsigned t = 0; t < count; t++) threads[t].state = State::runs;
    do {
        for (unsigned k = 0; k < warps; k++) run_warp(32 * at(k, warps, backwards), backwards);
    } while (open(0, count, State::waits_for_block));
    bool all = true;
    for (unsigned t = 0; t < count; t++) {
        if (threads[t].state == State::ended) continue;
        all = false;
        threads[t].stack.reset();  // stuck in the middle of a kernel: of no more use
    }
    return all;
}

// Launch as cuLaunchKernel does: arguments[k] points to the value of the k-th parameter.
template <typename... P, std::size_t... I>
bool launch(void (*kernel)(P...), std::index_sequence<I...>, const unsigned* sizes, void** arguments,
            bool backwards) {
    gridDim = {sizes[0], sizes[1], sizes[2]};
    blockDim = {sizes[3], sizes[4], sizes[5]};
    count = blockDim.x * blockDim.y * blockDim.z;
    body = [&] { kernel(*static_cast<P*>(arguments[I])...); };
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    for (unsigned k = 0; k < blocks; k++) {
        const unsigned b = at(k, blocks, backwards);
        blockIdx = {b % gridDim.x, b / gridDim.x % gridDim.y, b / gridDim.x / gridDim.y};
        if (!run_block(backwards)) return false;
    }
    return true;
}

template <typename... P>
bool launch(void (*kernel)(P...), const unsigned* sizes, void** arguments, bool backwards) {
    return launch(kernel, std::index_sequence_for<P...>(), sizes, arguments, backwards);
}

}  // namespace shim

inline void __syncthreads() { shim::wait(shim::State::waits_for_block); }
inline void __threadfence() {}

template <typename T>
T __shfl_xor_sync(unsigned, T x, int other) {
    const unsigned me = shim::current;
    std::memcpy(shim::threads[me].shuffled, &x, sizeof x);
    shim::wait(shim::State::waits_for_warp);  // all have written
    std::memcpy(&x, shim::threads[me ^ other].shuffled, sizeof x);
    shim::wait(shim::State::waits_for_warp);  // all have read
    return x;
}

inline unsigned atomicInc(unsigned* place, unsigned last) {
    const unsigned old = *place;
    *place = old >= last ? 0 : old + 1;
    return old;
}
