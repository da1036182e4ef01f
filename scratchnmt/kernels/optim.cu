// The norm of a gradient, Adam and SGD over the flat vector of weights, a launch each: the twin of optim.py.
//
//     M = b1 M + g                                  M = m / (1 - b1)              (1)
//     V = b2 V + g^2                                V = v / (1 - b2)              (2)
//     w = w - c M / (sqrt(V) + eps / s)                                          (3)
//     s = sqrt((1 - b2) / (1 - b2^t)),   c = rate (1 - b1) / ((1 - b1^t) s)      (4)
//
// w, g, M, V are vectors of `size` numbers; g is first multiplied by `scale` and by what clips its norm.  What
// changes from step to step (t, the rate, the scale, the norm) is read from memory, so that a captured step can be
// replayed.  What bounds all is memory: the norm reads 4 bytes for each weight in float32, Adam reads 16 and
// writes 12, SGD with momentum reads 12 and writes 8.
//
// Versions:  plain arrays           optim.py                      2 launches for the norm, 11 for Adam
//            ElementwiseKernel      Adam as here, with the numbers of (4) as arguments, so not to be captured
//            this one                                             1 launch each
//
// On an H100, in a training step, this one: norm and Adam 15 and 90 us for 8.6 million weights, 63 and 440 us for 40.4
// million, 88 and 89 % of the rate of copying.

#include "device.h"

// The Euclidean norm.  Each block leaves its partial sum; the block that ends last adds them up, always in the
// same order.  `done`, zero before and after, counts the blocks, so that it is known which one is the last.
template <typename T>
__global__ void global_norm(Rows<const T> g, Rows<double> partial, Rows<unsigned> done, Rows<double> norm,
                            long long size) {
    __shared__ bool last;
    T sum = T(0);
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < size;
         k += (long long)gridDim.x * blockDim.x)
        sum += g.data[k] * g.data[k];
    double total = block_sum(double(real_part(sum)));
    if (threadIdx.x == 0) {
        partial.data[blockIdx.x] = total;
        __threadfence();  // the others see the sum before they see the count
        last = atomicInc(done.data, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    const volatile double* sums = partial.data;  // written by other blocks while this one ran
    total = 0;
    for (int k = threadIdx.x; k < int(gridDim.x); k += blockDim.x) total += sums[k];
    total = block_sum(total);
    if (threadIdx.x == 0) norm.data[0] = sqrt(total);
}

__device__ inline double clip_factor(double norm, double max_norm) { return fmin(1.0, max_norm / (norm + 1e-6)); }

// numbers: t, the learning rate, the scale.
template <typename T>
__global__ void adam(Rows<T> w, Rows<const T> g, Rows<T> M, Rows<T> V, Rows<const double> numbers,
                     Rows<const double> norm, double max_norm, double b1, double b2, double eps, double eps_hat,
                     long long size) {
    if (!isfinite(norm.data[0])) return;  // nothing to learn from such a gradient
    __shared__ Real<T> shared[3];
    if (threadIdx.x == 0) {
        const double t = numbers.data[0], rate = numbers.data[1], scale = numbers.data[2];
        // (4) s, c: once for each block, in double
        const double s = sqrt((1 - b2) / (1 - pow(b2, t)));
        const double c = rate * (1 - b1) / ((1 - pow(b1, t)) * s);
        shared[0] = c;
        shared[1] = eps / s + eps_hat;  // one of the two is zero
        shared[2] = scale * clip_factor(norm.data[0] * fabs(scale), max_norm);
    }
    __syncthreads();
    const Real<T> c = shared[0], eps_s = shared[1], scale = shared[2], keep1 = b1, keep2 = b2;
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < size;
         k += (long long)gridDim.x * blockDim.x) {
        const T t = g.data[k] * scale, m_old = M.data[k], v_old = V.data[k], w_old = w.data[k];
        const T m = keep1 * m_old + t;  // (1)
        M.data[k] = m;
        const T v = keep2 * v_old + t * t;  // (2)
        V.data[k] = v;
        w.data[k] = w_old - c * m / (sqrt(v) + eps_s);  // (3)
    }
}

// numbers as above; momentum 0: the velocity is neither read nor written.
template <typename T>
__global__ void sgd(Rows<T> w, Rows<const T> g, Rows<T> velocity, Rows<const double> numbers,
                    Rows<const double> norm, double max_norm, double momentum, long long size) {
    if (!isfinite(norm.data[0])) return;
    const double scale = numbers.data[2];
    const Real<T> rate = numbers.data[1], keep = momentum;
    const Real<T> factor = scale * clip_factor(norm.data[0] * fabs(scale), max_norm);
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < size;
         k += (long long)gridDim.x * blockDim.x) {
        T move = g.data[k] * factor;
        if (momentum > 0) {
            move += keep * velocity.data[k];
            velocity.data[k] = move;
        }
        w.data[k] -= rate * move;
    }
}
