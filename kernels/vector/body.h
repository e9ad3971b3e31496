/* The shared body of the vector levels. A level (avx2.c, avx512.c, neon.c) defines the operations on 16 numbers that
 * are named below, includes this, and puts the functions into its table: one header for each kernel. Bytes are those of
 * scalar.c: each operation rounds as its scalar twin does, and where the order of a reduction matters it is written
 * down (kernels.h).
 *
 *   v16                          16 single precision numbers
 *   v_set(x)  v_load(p, n)  v_store(p, x, n)                n is 16 or 8: a half leaves out lanes 8 to 15, read as 0
 *   v_add v_sub v_mul v_div v_min v_max (x, y)  v_abs(x)
 *   v_if_less(a, b, x, y)        a < b ? x : y
 *   v_max_bits(x, y)             the larger, lane by lane, of positive numbers, infinities and NaNs as integers
 *   v_any_from(x, bits)          whether one of them, as an integer, is at least `bits`
 *   v_sum(x)                     lanes added pairwise: j and j + 8, then + 4, + 2, + 1
 *   v_least(x)  v_greatest(x)    over all lanes
 *   v_from_f16(p, n) v_from_bf16(p, n) v_to_f16(p, x, n) v_to_bf16(p, x, n)
 *   v_unpack(bits, codes, high, n)                          codes as numbers
 *   v_pack(bits, x, codes, high, n)  v_pack32(bits, x, y, codes, high)
 *                                the nearest codes to numbers below 2^31
 *   o32                          32 elements of 16 bits (f16 or bf16) as integers that are ordered as the elements are:
 *                                all bits but the sign are turned over in negative ones
 *   o_load(p, n)                 n is 32, 16 or 8; less is repeated to fill all 32
 *   o_min o_max (x, y)  o_least(x)  o_greatest(x)           the last two over all lanes
 *   o_read(p, n)  o_write(p, x, n)                          ordered integers in memory
 *   loss16                       16 lanes each of errors, squares, worst, in double precision (kernels.h, compare)
 *   v_loss(loss, x, y)           with one of each added
 *   v_loss_lanes(loss, lanes)    as numbers
 *
 * Codes of 8 channels fill whole bytes, so vectors work on runs of 32, 16 and 8 channels of one head. Odd shapes (a
 * head that is no multiple of 8 channels) are left to scalar.c: no engine has them. */
#ifndef KVOT_VECTOR_BODY_H
#define KVOT_VECTOR_BODY_H

#include "choose.h"
#include "compare.h"
#include "dequantize.h"
#include "magnitudes.h"
#include "quantize.h"

#endif
