// What the kernels share.  T is float or double on a GPU; the tests run the same text on the CPU, there
// also with complex numbers, so that complex-step differentiation goes through it: hence sigmoid by tanh,
// which is analytic and never overflows, and comparisons on the real part alone.

const int WARP = 32;  // threads that run in step and can read each other's registers
const float LOWEST = -3.4e38f;  // below any number that matters

// A matrix, or a stack of them, whose rows are contiguous: row(d, n) starts at data + d * outer + n * step.
template <typename T>
struct Rows {
    T* data;
    long long outer, step;  // counted in elements

    __device__ T* row(long long d, long long n) const { return data + d * outer + n * step; }
};

#ifdef __CUDACC_RTC__
// The shared memory whose size is told at the launch.
template <typename T>
__device__ T* dynamic_shared() {
    extern __shared__ __align__(16) unsigned char bytes[];
    return reinterpret_cast<T*>(bytes);
}
#endif

template <typename T>
__device__ T real_part(T x) { return x; }

template <typename T>
using Real = decltype(real_part(T()));

template <typename T>
__device__ T sigmoid(T x) { return T(0.5) * (T(1) + tanh(T(0.5) * x)); }

// The sum of x over the threads of a warp, the same bits in each of them.
template <typename T>
__device__ T warp_sum(T x) {
    for (int other = WARP / 2; other > 0; other /= 2) x += __shfl_xor_sync(0xffffffffu, x, other);
    return x;
}

// The sum of x over the threads of a block, the same bits in each of them; whole warps, at most 32.
template <typename T>
__device__ T block_sum(T x) {
    __shared__ T sums[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    x = warp_sum(x);
    __syncthreads();  // nobody reads the sums of an earlier call any more
    if (lane == 0) sums[warp] = x;
    __syncthreads();
    return warp_sum(lane < warps ? sums[lane] : T(0));
}

// The largest x of a block's threads; R is a real type.
template <typename R>
__device__ R block_max(R x) {
    __shared__ R largest[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    for (int other = WARP / 2; other > 0; other /= 2) x = fmax(x, __shfl_xor_sync(0xffffffffu, x, other));
    __syncthreads();
    if (lane == 0) largest[warp] = x;
    __syncthreads();
    x = largest[lane < warps ? lane : 0];
    for (int other = WARP / 2; other > 0; other /= 2) x = fmax(x, __shfl_xor_sync(0xffffffffu, x, other));
    return x;
}
