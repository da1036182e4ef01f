// What blocks need that run beside each other and wait for each other: a barrier across the grid.  The launch must be
// cooperative, so that all blocks are on the card at once: a block that waits for one that cannot start waits for ever.
// The words below are a card's; the tests have their own for a CPU.

#ifdef __CUDACC_RTC__
// What lies at `place` now, whoever wrote it; what that thread wrote before it told is seen afterwards (acquire).
__device__ unsigned read_newest(const unsigned* place) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(place) : "memory");
    return value;
}

// Add, and let whoever reads it see all that was written before (release).
__device__ void add_and_tell(unsigned* place, unsigned x) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" : : "l"(place), "r"(x) : "memory");
}

__device__ void let_others_run() { __nanosleep(20); }
#endif

// The barrier: nobody goes on before each of `blocks` blocks has come here for the `times`-th time.  counter: 0 before
// the first time.  Thread 0 speaks for its block: the barriers within the block hand on what it tells and has seen.
__device__ void wait_for_blocks(unsigned* counter, unsigned blocks, unsigned times) {
    __syncthreads();
    if (threadIdx.x == 0) {
        add_and_tell(counter, 1);
        while (read_newest(counter) < blocks * times) let_others_run();
    }
    __syncthreads();
}
