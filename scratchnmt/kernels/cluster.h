// What the blocks of a cluster need, which run beside each other and reach into each other's shared memory; of cards of
// compute capability 9.0 or later.  The card starts all blocks of a cluster or none, so that they may wait for each
// other in any launch.  The words below are a card's; the tests have their own for a CPU.

#ifdef __CUDACC_RTC__
// Where `mine`, which is in this block's shared memory, lies in that of another block of the cluster.  That block must
// have begun, and must not have ended: so a barrier comes before the first use, and another after the last one.
template <typename T>
__device__ T* of_block(T* mine, unsigned block) {
    unsigned long long theirs;
    asm("mapa.u64 %0, %1, %2;" : "=l"(theirs) : "l"(reinterpret_cast<unsigned long long>(mine)), "r"(block));
    return reinterpret_cast<T*>(theirs);
}

// The barrier: no thread of the cluster goes on before all have come here, and then each sees what the others wrote.
__device__ void wait_for_cluster() {
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
#endif
