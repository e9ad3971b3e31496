/* K: group ranges over rows, codes. */
#include "measure.cuh"

/* Exact rows depend on the magnitudes of a whole chunk, but there are few. So the first of two passes measures rows and
 * quantizes them as if none were exact, and the second does again what exact rows are part of. */
enum key_pass { ONE_PASS, FIRST_PASS, SECOND_PASS };

/* One block: a group of rows and 256 channels, one warp for every 8 of the rows. A lane takes 8 neighbouring channels
 * of its warp's rows and keeps them in registers between finding the range and making the codes, so K is read once.
 *
 * Bytes moved for each element, with elements of e bytes: e in; bits / 8 and 2 e / group out; 1 / head_dim (exact
 * flags) in or 8 / head_dim (magnitudes) out. f16, 4 bits, groups of 64, heads of 128: 2.6. A warp reads 512
 * neighbouring bytes of a row (1024 of f32) and writes 64 to 256 of codes: whole sectors. Least and largest numbers
 * pass between warps through shared memory, where a channel's slots lie so that neither way of reading them meets a
 * bank twice: k * 36 + lane, in units of 8 bytes. All loads of a thread are under way at once (128 bytes, f32 256); a
 * block computes only when its last row is there, and three others on its multiprocessor load meanwhile (f32:
 * one).
 *
 * One pass takes about 15 instructions an element. An H100 issues 22 in the time that 2.6 bytes take: 0.8 of peak
 * bandwidth. With magnitudes it is about 25, so instructions are the limit, not memory: 0.6. The second pass reads the
 * flags, and whatever shares a block with an exact row: at most 2 rows a head of a chunk, unless rows are infinite. */
template <int TYPE, int BITS, key_pass PASS> __device__ void quantize_keys_packed(const cuda_plane &p) {
    extern __shared__ float2 slots[]; /* [warps][CUDA_KEY_SLOTS] */
    uint32_t channels = p.heads * p.head_dim, tiles = (channels + 255) / 256;
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    uint32_t first_channel = blockIdx.x % tiles * 256, channel = first_channel + lane * CUDA_PIECE;
    row_block block = locate(p, blockIdx.x / tiles, p.group);
    size_t group = block.groups + block.in_chunk / p.group;
    uint32_t head = channel / p.head_dim;
    uint32_t before = warp * CUDA_THREAD_ROWS, first = block.first + before;
    uint32_t rows = channel < channels && before < block.rows ? min(block.rows - before, CUDA_THREAD_ROWS) : 0;
    const element_of<TYPE> *from = (const element_of<TYPE> *)p.elements + head * p.head_stride + channel % p.head_dim;
    uint32_t quantized = (1u << rows) - 1; /* a bit for each of the thread's rows */
    if constexpr (PASS != FIRST_PASS) {
#pragma unroll
        for (int i = 0; i < CUDA_THREAD_ROWS; i++)
            if (i < rows && ((const uint8_t *)p.exact)[(size_t)(first + i) * p.heads + head] != 0)
                quantized &= ~(1u << i);
    }
    if (PASS == SECOND_PASS && !__syncthreads_or(quantized != (1u << rows) - 1))
        return;

    piece<TYPE> pieces[CUDA_THREAD_ROWS];
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
        if (i < rows)
            pieces[i].load(from + (first + i) * p.token_stride);
        else if (PASS == FIRST_PASS)
            pieces[i].clear();
    }
    if constexpr (PASS == FIRST_PASS) /* in the warp's slots, which are used after this */
        measure_pieces<TYPE, true>(p, pieces, *(measure_stage<TYPE> *)(slots + warp * CUDA_KEY_SLOTS),
                                   p.head_dim / CUDA_PIECE, first, rows, head);
    float low[CUDA_PIECE], high[CUDA_PIECE];
#pragma unroll
    for (int k = 0; k < CUDA_PIECE; k++) {
        low[k] = __uint_as_float(INFINITE);
        high[k] = -low[k];
    }
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
        if (!(quantized >> i & 1u))
            continue;
#pragma unroll
        for (int k = 0; k < CUDA_PIECE; k++) {
            low[k] = fminf(low[k], pieces[i].get(k));
            high[k] = fmaxf(high[k], pieces[i].get(k));
        }
    }
#pragma unroll
    for (int k = 0; k < CUDA_PIECE; k++)
        slots[warp * CUDA_KEY_SLOTS + k * 36 + lane] = make_float2(low[k], high[k]);
    __syncthreads();
    for (uint32_t c = threadIdx.x; c < 256; c += blockDim.x) {
        uint32_t slot = c % CUDA_PIECE * 36 + c / CUDA_PIECE;
        float2 all = slots[slot];
        for (uint32_t w = 1; w < warps; w++) {
            float2 more = slots[w * CUDA_KEY_SLOTS + slot];
            all = make_float2(fminf(all.x, more.x), fmaxf(all.y, more.y));
        }
        if (first_channel + c < channels) {
            range range = range_of<TYPE, BITS>(p, all.x, all.y, group * channels + first_channel + c, true);
            slots[slot] = make_float2(range.minimum, range.inverse);
        }
    }
    __syncthreads();
    if (channel >= channels)
        return;
    range ranges[CUDA_PIECE];
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i++)
        pieces[i].forget();
#pragma unroll
    for (int k = 0; k < CUDA_PIECE; k++)
        ranges[k] = range{slots[k * 36 + lane].x, slots[k * 36 + lane].y};
#pragma unroll
    for (int i = 0; i < CUDA_THREAD_ROWS; i++) {
        if (i >= rows)
            break;
        packed_codes codes = {0, 0};
        if (quantized >> i & 1u) {
#pragma unroll
            for (int k = 0; k < CUDA_PIECE; k++)
                put_code<BITS>(codes, k, code_of<BITS>(ranges[k], pieces[i].get(k)));
        }
        store_codes<BITS>(p, first + i, channel, codes);
    }
}

/* Any strides and head sizes. One block: a group of rows and 64 channels, staged in shared memory, read along whichever
 * axis is dense in memory. A row of the tile is an odd number of words, so that rows and channels of it can be read
 * without bank conflicts. Codes are written byte by byte.
 *
 * The same bytes as above. Channel-major rows are read 64 (f16, groups of 32) to 512 neighbouring bytes at a time:
 * 0.5 of peak bandwidth should be there; byte stores of 8 neighbouring channels cost the rest. */
template <int TYPE, int BITS> __device__ void quantize_keys_strided(const cuda_plane &p) {
    constexpr uint32_t WIDTH = CUDA_KEY_CHANNELS, STRIDE = WIDTH + 4 / sizeof(element_of<TYPE>);
    __shared__ element_of<TYPE> tile[128 * STRIDE];
    __shared__ float2 slots[CUDA_THREADS];
    __shared__ int64_t offsets[WIDTH];
    uint32_t channels = p.heads * p.head_dim, tiles = (channels + WIDTH - 1) / WIDTH, t = threadIdx.x;
    uint32_t first_channel = blockIdx.x % tiles * WIDTH, width = min(WIDTH, channels - first_channel);
    row_block block = locate(p, blockIdx.x / tiles, p.group);
    size_t group = block.groups + block.in_chunk / p.group;
    const element_of<TYPE> *from = (const element_of<TYPE> *)p.elements + block.first * p.token_stride;
    const uint8_t *exact = (const uint8_t *)p.exact + (size_t)block.first * p.heads;
    if (t < width)
        offsets[t] = channel_offset(p, first_channel + t);
    __syncthreads();
    stage<TYPE>(p, from, offsets, block.rows, p.group, width, tile, STRIDE);
    __syncthreads();
    float low = __uint_as_float(INFINITE), high = -low;
    uint32_t head = (first_channel + t % WIDTH) / p.head_dim;
    for (uint32_t r = t / WIDTH; t % WIDTH < width && r < block.rows; r += CUDA_THREADS / WIDTH) {
        float value = to_float<TYPE>(tile[r * STRIDE + t % WIDTH]);
        if (exact[(size_t)r * p.heads + head] == 0) {
            low = fminf(low, value);
            high = fmaxf(high, value);
        }
    }
    slots[t] = make_float2(low, high);
    __syncthreads();
    if (t < width) {
        for (uint32_t part = WIDTH; part < CUDA_THREADS; part += WIDTH) {
            low = fminf(low, slots[part + t].x);
            high = fmaxf(high, slots[part + t].y);
        }
        range range = range_of<TYPE, BITS>(p, low, high, group * channels + first_channel + t, true);
        slots[t] = make_float2(range.minimum, range.inverse);
    }
    __syncthreads();
    constexpr uint32_t PIECES = WIDTH / CUDA_PIECE;
    for (uint32_t i = t; i < block.rows * PIECES; i += CUDA_THREADS) {
        uint32_t r = i / PIECES, c = i % PIECES * CUDA_PIECE;
        packed_codes codes = {0, 0};
        for (uint32_t k = 0; k < CUDA_PIECE && c + k < width; k++) {
            float2 numbers = slots[c + k];
            if (exact[(size_t)r * p.heads + (first_channel + c + k) / p.head_dim] == 0)
                put_code<BITS>(codes, k,
                               code_of<BITS>(range{numbers.x, numbers.y}, to_float<TYPE>(tile[r * STRIDE + c + k])));
        }
        if (c < width)
            store_code_bytes<BITS>(p, block.first + r, first_channel + c, codes);
    }
}
