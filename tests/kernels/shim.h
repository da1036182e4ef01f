// CUDA's words for g++, so that a kernel's text runs on the CPU, barriers, shuffles and all.
//
// Every thread of a block is a fiber, a stack of its own, that runs until it waits at a barrier or ends; then the
// next one runs.  A barrier opens when all threads of the block (or of the warp, for a shuffle) wait at it.  If
// some wait where others never come, launch returns false: a GPU would hang or go on with garbage.  Each warp runs
// as far ahead of the others as barriers let it, the first one first or, backwards, the last one first: a result
// that depends on the order is a race.
//
// Blocks run one after the other.  In a cooperative launch, where they may wait for each other (kernels/grid.h), each
// is a thread of the system with shared memory and fibers of its own, and one runs at a time, until it pauses to wait
// for others: so the first block runs ahead, or backwards the last one.  If all wait and none of them has told the
// others anything, launch says so.  The blocks of a cluster (kernels/cluster.h) run together like this, one cluster after
// the other; launch says so if one reaches into the memory of a block that has not begun, or has ended.  What nobody
// can see here stands in docs/kernel-ladder.md.

#include <algorithm>
#include <cmath>
#include <complex>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __shared__ static thread_local

using std::exp, std::fabs, std::fmax, std::fmin, std::isfinite, std::log, std::min, std::pow, std::sqrt, std::tanh;
inline double real_part(std::complex<double> x) { return x.real(); }

struct dim3 { unsigned x, y, z; };
static thread_local dim3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

namespace shim {

enum class State { runs, waits_for_warp, waits_for_block, waits_for_grid, ended };
enum Outcome { DONE, LEFT_BEHIND, WAITS_FOR_BLOCKS, NOBODY_THERE };

const std::size_t STACK = 64 << 10;

struct Thread {
    void* place[5];  // where to go on
    dim3 index;
    std::unique_ptr<char[]> stack;
    State state;
    alignas(16) char shuffled[2][16];  // what it shows to its warp, this time and the next
    unsigned shuffles = 0;
};

// The threads of the block that runs; blocks that run together have each their own.
struct Block {
    std::vector<Thread> threads = std::vector<Thread>(1024);
    unsigned current;
    void* scheduler[5];  // where it goes on
};

static thread_local Block here;
static thread_local std::vector<double> dynamic;  // the shared memory that a launch asks for
static std::function<void()> body;
static unsigned count;

// Who runs of the blocks of a cooperative launch; one at a time, so only the turn itself needs the lock.
struct Turns {
    std::mutex mutex;
    std::condition_variable passed;
    std::vector<unsigned> blocks;  // those that have not ended, in their order
    unsigned now = 0;  // whose turn it is, of these
    unsigned told = 0, told_before = 0;  // how often blocks have told others something: now, and when the turn began
    unsigned idle = 0;  // turns in a row in which none did
    std::vector<char*> shared;  // of each block its dynamic shared memory, from its beginning to its end
    unsigned arrivals = 0;  // at the barriers of the cluster
    bool nobody_there = false;  // a block has reached into memory that is not there

    bool stuck() const { return idle > blocks.size(); }

    // Wait for block b's turn; false if there is no use in it.
    bool wait(unsigned b) {
        std::unique_lock<std::mutex> lock(mutex);
        passed.wait(lock, [&] { return stuck() || blocks[now] == b; });
        return !stuck();
    }

    // The turn goes on to the next block; this one comes back to wait, or has ended.
    void pass(bool ended) {
        std::lock_guard<std::mutex> lock(mutex);
        if (stuck()) return;
        idle = ended || told != told_before ? 0 : idle + 1;
        told_before = told;
        if (ended) blocks.erase(blocks.begin() + now);
        else now++;
        if (!blocks.empty()) now %= blocks.size();
        passed.notify_all();
    }
};

static Turns* turns;  // null: blocks do not wait for each other

inline unsigned at(unsigned k, unsigned size, bool backwards) { return backwards ? size - 1 - k : k; }

// By g++'s own jumps: with setjmp's a shuffle takes twice as long.  None may be in the function that it leads to.
[[noreturn, gnu::noinline]] inline void jump(void** place) { __builtin_longjmp(place, 1); }

// Back to the scheduler; returns when it lets this thread go on.
[[gnu::noinline]] inline void wait(State state) {
    Thread& me = here.threads[here.current];
    me.state = state;
    if (!__builtin_setjmp(me.place)) jump(here.scheduler);
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
[[gnu::noinline]] inline void go_on(unsigned t) {
    Thread& thread = here.threads[here.current = t];
    threadIdx = thread.index;
    if (__builtin_setjmp(here.scheduler)) return;
    if (thread.stack) jump(thread.place);
    begin(thread);
}

// Let the threads from `first` to `last` go on if all of them wait in this state.
inline bool open(unsigned first, unsigned last, State state) {
    std::vector<Thread>& threads = here.threads;
    for (unsigned t = first; t < last; t++)
        if (threads[t].state != state) return false;
    for (unsigned t = first; t < last; t++) threads[t].state = State::runs;
    return true;
}

// Run one warp as far as it gets by itself.
inline void run_warp(unsigned first, bool backwards) {
    const unsigned size = std::min(32u, count - first);
    std::vector<Thread>& threads = here.threads;
    do {
        for (unsigned k = 0; k < size; k++) {
            const unsigned t = first + at(k, size, backwards);
            if (threads[t].state == State::runs) go_on(t);
        }
    } while (size == 32 && open(first, first + 32, State::waits_for_warp));
}

// Threads that wait for other blocks look again once those have run; false if there are none.
inline bool others_have_run(unsigned turn) {
    std::vector<Thread>& threads = here.threads;
    bool any = false;
    for (unsigned t = 0; t < count; t++) any = any || threads[t].state == State::waits_for_grid;
    if (!any || !turns) return false;
    turns->pass(false);
    if (!turns->wait(turn)) return false;
    for (unsigned t = 0; t < count; t++)
        if (threads[t].state == State::waits_for_grid) threads[t].state = State::runs;
    return true;
}

// Run block b, whose dynamic shared memory begins as numbers that show: every bit is set, which is NaN.  turn: its
// number among the blocks that run together, if any do.
inline Outcome run_block(unsigned b, unsigned turn, unsigned shared, bool backwards) {
    blockIdx = {b % gridDim.x, b / gridDim.x % gridDim.y, b / gridDim.x / gridDim.y};
    dynamic.resize(shared / sizeof(double) + 2);
    std::memset(dynamic.data(), 255, dynamic.size() * sizeof(double));
    if (turns) turns->shared[turn] = reinterpret_cast<char*>(dynamic.data());
    const unsigned warps = (count + 31) / 32;
    std::vector<Thread>& threads = here.threads;
    for (unsigned t = 0; t < count; t++) {
        threads[t].state = State::runs, threads[t].shuffles = 0;
        threads[t].index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
    }
    do {
        for (unsigned k = 0; k < warps; k++) run_warp(32 * at(k, warps, backwards), backwards);
    } while (open(0, count, State::waits_for_block) || others_have_run(turn));
    if (turns) turns->shared[turn] = nullptr;
    Outcome outcome = DONE;
    for (unsigned t = 0; t < count; t++) {
        if (threads[t].state == State::ended) continue;
        if (outcome == DONE) outcome = LEFT_BEHIND;
        if (threads[t].state == State::waits_for_grid) outcome = WAITS_FOR_BLOCKS;
        threads[t].stack.reset();  // stuck in the middle of a kernel: of no more use
    }
    return outcome;
}

// So many blocks from the first one side by side, each a thread of the system.
inline Outcome run_together(unsigned first, unsigned blocks, unsigned shared, bool backwards) {
    Turns these;
    turns = &these;
    these.shared.resize(blocks);
    for (unsigned k = 0; k < blocks; k++) these.blocks.push_back(at(k, blocks, backwards));
    std::vector<Outcome> outcomes(blocks, WAITS_FOR_BLOCKS);
    std::vector<std::thread> running;
    for (unsigned b = 0; b < blocks; b++)
        running.emplace_back([&, b] {
            if (!these.wait(b)) return;
            outcomes[b] = run_block(first + b, b, shared, backwards);
            these.pass(true);
        });
    for (std::thread& thread : running) thread.join();
    turns = nullptr;
    for (Outcome outcome : outcomes)
        if (outcome == LEFT_BEHIND) return outcome;
    if (these.nobody_there) return NOBODY_THERE;
    return *std::max_element(outcomes.begin(), outcomes.end());
}

// Launch as cuLaunchKernel or cuLaunchCooperativeKernel does: arguments[k] points to the value of the k-th parameter.
template <typename... P, std::size_t... I>
Outcome launch(void (*kernel)(P...), std::index_sequence<I...>, const unsigned* sizes, void** arguments,
               bool cooperative, unsigned cluster, bool backwards) {
    gridDim = {sizes[0], sizes[1], sizes[2]};
    blockDim = {sizes[3], sizes[4], sizes[5]};
    count = blockDim.x * blockDim.y * blockDim.z;
    body = [&] { kernel(*static_cast<P*>(arguments[I])...); };
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z, shared = sizes[6];
    if (cooperative) return run_together(0, blocks, shared, backwards);
    for (unsigned k = 0; k < blocks / cluster; k++) {
        const unsigned b = at(k, blocks / cluster, backwards) * cluster;
        const Outcome outcome = cluster > 1 ? run_together(b, cluster, shared, backwards)
                                            : run_block(b, 0, shared, backwards);
        if (outcome) return outcome;
    }
    return DONE;
}

template <typename... P>
Outcome launch(void (*kernel)(P...), const unsigned* sizes, void** arguments, bool cooperative, unsigned cluster,
               bool backwards) {
    return launch(kernel, std::index_sequence_for<P...>(), sizes, arguments, cooperative, cluster, backwards);
}

}  // namespace shim

inline void __syncthreads() { shim::wait(shim::State::waits_for_block); }
inline void __threadfence() {}

template <typename T>
T __shfl_xor_sync(unsigned, T x, int other) {
    std::vector<shim::Thread>& threads = shim::here.threads;
    const unsigned me = shim::here.current, place = threads[me].shuffles++ % 2;
    std::memcpy(threads[me].shuffled[place], &x, sizeof x);
    shim::wait(shim::State::waits_for_warp);  // all have written, and read what they were shown the last time
    std::memcpy(&x, threads[me ^ other].shuffled[place], sizeof x);
    return x;
}

inline unsigned atomicInc(unsigned* place, unsigned last) {
    const unsigned old = *place;
    *place = old >= last ? 0 : old + 1;
    return old;
}

// The words of kernels/grid.h.  Whoever pauses lets other threads and blocks run.
inline unsigned read_newest(const unsigned* place) { return *place; }
inline void let_others_run() { shim::wait(shim::State::waits_for_grid); }

inline void add_and_tell(unsigned* place, unsigned x) {
    *place += x;
    if (shim::turns) shim::turns->told++;
}

template <typename T>
T* dynamic_shared() { return reinterpret_cast<T*>(shim::dynamic.data()); }

// The words of kernels/cluster.h.
template <typename T>
T* of_block(T* mine, unsigned block) {
    char* theirs = shim::turns->shared[block];
    if (!theirs) {
        shim::turns->nobody_there = true;
        return mine;
    }
    return reinterpret_cast<T*>(theirs + (reinterpret_cast<char*>(mine) - reinterpret_cast<char*>(shim::dynamic.data())));
}

inline void wait_for_cluster() {
    __syncthreads();
    shim::Turns& all = *shim::turns;
    if (shim::here.current == 0) {
        const unsigned blocks = all.shared.size(), wanted = (all.arrivals / blocks + 1) * blocks;
        add_and_tell(&all.arrivals, 1);
        while (all.arrivals < wanted) let_others_run();
    }
    __syncthreads();
}
