// One instruction set's implementation of the draws and of applying them, as a table of functions.
#ifndef NOISEVOTE_ISA_H_
#define NOISEVOTE_ISA_H_

#include "stream.h"

namespace noisevote {

// One version of the draws.
struct Draws {
  size_t per_block;  // normals of a block
  // Philox words of blocks first .. first+blocks-1: out[4 * blocks].
  void (*words)(const Stream&, uint32_t first, size_t blocks, uint32_t* out);
  // Normals of the same blocks: out[per_block * blocks].
  void (*normals)(const Stream&, uint32_t first, size_t blocks, float* out);
  // Normals of a channels-last row whose positions are a multiple of 4, in memory order: out[4 * groups, channels]
  // for the positions from 4 * first_group on. nullptr in version 2, which no network is trained with.
  void (*normals_across)(const Stream&, size_t channels, size_t positions, size_t first_group, size_t groups,
                         float* out);
  // A whole channels-last row of bytes whose positions are a multiple of 4, drawn and added in one pass.
  void (*noise_bytes_across)(const Stream&, const QuantizedAmplitude&, size_t channels, size_t positions,
                             const uint8_t* x, uint8_t* y);
};

constexpr int64_t kVersions = 2;

struct Isa {
  const char* name;
  Draws draws[kVersions];  // of version 1, of version 2
  // y[i] = act(x[i] + amplitude(x[i]) * z[i]), i < n. x and y may be the same array.
  void (*apply_f32)(const Amplitude&, const float* x, const float* z, float* y, size_t n);
  void (*apply_bf16)(const Amplitude&, const Bf16* x, const float* z, Bf16* y, size_t n);
  // The same between bytes; x and y are different arrays.
  void (*apply_u8)(const QuantizedAmplitude&, const uint8_t* x, const float* z, uint8_t* y, size_t n);
  // gx[i] = g[i] * dy/dx, from x and the y that apply returned.
  void (*gradient_f32)(const Amplitude&, const float* x, const float* y, const float* g, float* gx, size_t n);
  void (*gradient_bf16)(const Amplitude&, const Bf16* x, const Bf16* y, const Bf16* g, Bf16* gx, size_t n);
};

const Isa* portable_isa();
const Isa* avx2_isa();    // nullptr where the compiler's target has none
const Isa* avx512_isa();  // nullptr where the compiler's target has none

// The widest instruction set that this processor has; or the one called `name`, nullptr if it cannot run here.
const Isa& best_isa();
const Isa* isa_named(const char* name);

}  // namespace noisevote

#endif  // NOISEVOTE_ISA_H_
