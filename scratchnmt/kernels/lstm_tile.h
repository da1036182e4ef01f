// What lstm_step.cu, lstm_persistent.cu and decoder_step.cu share: a block's part of one step, for ROWS sentences at a
// time.  Of an LSTM it has UNITS hidden units, and all four of their gates, so that the product's results need no other
// block.

const int UNITS = 8;  // four gates of as many units are 32 columns of Wh: one for each lane of a warp
const int ROWS = 8;  // so many sentences share what is read of Wh
const int WARPS = 8;
const int THREADS = WARPS * WARP;

// Half of the values of each lane for half of those of the lane that differs in `bit`, added to what stays: 2 * half
// values become `half`, the upper ones where the bit is set.  A sum over lanes that leaves each lane with its share.
template <int half, typename T>
__device__ void fold(T* values, int bit) {
    const bool upper = threadIdx.x & bit;
#pragma unroll
    for (int k = 0; k < half; k++) {
        const T given = upper ? values[k] : values[k + half], kept = upper ? values[k + half] : values[k];
        values[k] = kept + __shfl_xor_sync(0xffffffffu, given, bit);
    }
}

// The sums over warps, in the memory of the block: [warp][row][4 gates of UNITS].
template <typename T>
using Sums = T[WARPS][ROWS][WARP];

// sum_k r[row][k] weight(k, gate) for ROWS rows and the gates of this lane's unit, which is threadIdx.x % UNITS.  The
// sum is shared out: each warp, and in it each quarter of the lanes, has every 32nd k.  row(n): where row n of r lies.
template <typename T, typename Row, typename Weight>
__device__ void sum_forward(Sums<T>& sums, int H, Row row, Weight weight) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, quarters = WARP / UNITS;
    T z[4 * ROWS] = {};  // [gate][row]
    for (int k = warp * quarters + lane / UNITS; k < H; k += WARPS * quarters) {
        T w[4];
#pragma unroll
        for (int gate = 0; gate < 4; gate++) w[gate] = weight(k, gate);
#pragma unroll
        for (int n = 0; n < ROWS; n++) {
            const T r = row(n)[k];
#pragma unroll
            for (int gate = 0; gate < 4; gate++) z[gate * ROWS + n] += r * w[gate];
        }
    }
    fold<2 * ROWS>(z, 16);  // the sum over quarters: each is left with one gate
    fold<ROWS>(z, 8);
    __syncthreads();  // nobody reads the sums of an earlier call any more
#pragma unroll
    for (int n = 0; n < ROWS; n++) sums[warp][n][lane] = z[n];
    __syncthreads();
}

// What sum_forward found for one row, gate and unit.
template <typename T>
__device__ T summed_forward(const Sums<T>& sums, int n, int gate, int unit) {
    T sum = T(0);
    for (int warp = 0; warp < WARPS; warp++) sum += sums[warp][n][gate * UNITS + unit];
    return sum;
}

// sum_j value(row, j) weight(unit, j) for ROWS rows and UNITS units, where a column j has PARTS values and weights, such
// as those of four gates.  Lanes read neighbouring columns; each warp has half of the units and every fourth stretch of
// columns, so that two warps ask for the same values.  values(n, j, to): fills to[PARTS].
template <int PARTS, typename T, typename Values, typename Weight>
__device__ void sum_backward(Sums<T>& sums, int size, Values values, Weight weight) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, half = UNITS / 2, first = warp % 2 * half;
    T dr[ROWS * half] = {};  // [row][unit]
    for (int j = warp / 2 * WARP + lane; j < size; j += WARPS / 2 * WARP) {
        T w[PARTS * half];
#pragma unroll
        for (int part = 0; part < PARTS; part++)
#pragma unroll
            for (int unit = 0; unit < half; unit++) w[part * half + unit] = weight(first + unit, part, j);
#pragma unroll
        for (int n = 0; n < ROWS; n++) {
            T value[PARTS];
            values(n, j, value);
#pragma unroll
            for (int part = 0; part < PARTS; part++)
#pragma unroll
                for (int unit = 0; unit < half; unit++) dr[n * half + unit] += value[part] * w[part * half + unit];
        }
    }
    fold<16>(dr, 16);  // the sum over lanes: each is left with one row and unit
    fold<8>(dr, 8);
    fold<4>(dr, 4);
    fold<2>(dr, 2);
    fold<1>(dr, 1);
    __syncthreads();  // nobody reads the sums of an earlier call any more
    sums[warp][0][lane] = dr[0];
    __syncthreads();
}

// What sum_backward found for one row and unit.
template <typename T>
__device__ T summed_backward(const Sums<T>& sums, int n, int unit) {
    const int half = UNITS / 2;
    T sum = T(0);
    for (int warp = unit / half; warp < WARPS; warp += 2) sum += sums[warp][0][n * half + unit % half];
    return sum;
}

// h and c of one unit from its pre-activations z[gate]: lstm_gates (1) to (4).  gates: where the first of the unit's
// four is written, H apart.
template <typename T>
__device__ T unit_forward(const T* z, T c_prev, T* gates, int H, T* c, T* tanh_c) {
    const T i = sigmoid(z[0]), f = sigmoid(z[1]), g = tanh(z[2]), o = sigmoid(z[3]);
    gates[0] = i;
    gates[H] = f;
    gates[2 * H] = g;
    gates[3 * H] = o;
    *c = f * c_prev + i * g;
    *tanh_c = tanh(*c);
    return o * *tanh_c;
}

// The way back: dz of one unit from dh and dc, which becomes that of c_prev.  The unit's four gates are H apart, and
// what is written of dz `step`.
template <typename T>
__device__ void unit_backward(T dh, T* dc_place, const T* gates, int H, T c_prev, T tanh_c, T* dz, int step) {
    const T i = gates[0], f = gates[H], g = gates[2 * H], o = gates[3 * H];
    const T dc = *dc_place + dh * o * (T(1) - tanh_c * tanh_c);
    dz[0] = dc * g * i * (T(1) - i);
    dz[step] = dc * c_prev * f * (T(1) - f);
    dz[2 * step] = dc * i * (T(1) - g * g);
    dz[3 * step] = dh * tanh_c * o * (T(1) - o);
    *dc_place = dc * f;
}
