// The channels of a dense block: one matrix [rows, stride] of signals, position by position, of which each layer reads
// the first `channels` columns and adds some. A batch norm's mean and deviation of a channel are the same for every
// layer that reads it, so that they are taken once, where the channel is added.
#ifndef NOISEVOTE_CHANNELS_H_
#define NOISEVOTE_CHANNELS_H_

#include <cstdint>

#include "team.h"

namespace noisevote {

// Numbers of 16 bits, the upper half of a float's.
struct Bf16 {
  uint16_t bits;
};

// Rows of a matrix, one every `stride` elements, and how many of their columns are meant.
struct Span {
  int64_t rows;
  int64_t stride;
  int64_t channels;
};

// What a norm's scale and shift make of a channel: relu(scale * x + shift), each [channels].
struct Affine {
  const float* scale;
  const float* shift;
};

// One instruction set's implementation for signals of type T. Dense arrays have a stride of `channels`.
template <class T>
struct Functions {
  // Copies the dense x to `into`, and writes the sums of each channel and of its squares: sums[2, channels].
  void (*place)(const Span&, const T* x, T* into, double* sums, const Team&);
  // y[row, i] = relu(scale[i] * x[row, i] + shift[i]), dense.
  void (*activate)(const Span&, const T* x, const Affine&, T* y, const Team&);
  // The gradient behind the ReLU, dz = g where it passed: sums[2, channels] are of dz and of dz * x. What comes through
  // the scale, weight * dz, is added to `into`, which lies as x does; or, if it is the first, put there.
  void (*collect)(const Span&, const T* g, const T* x, const Affine&, const float* weight, bool first, T* into,
                  double* sums, const Team&);
  // y = gain * g - slope * x - offset, dense, of g and x that lie alike.
  void (*through)(const Span&, const T* g, const T* x, const float* gain, const float* slope, const float* offset, T* y,
                  const Team&);
};

struct ChannelsIsa {
  const char* name;
  Functions<float> f32;
  Functions<Bf16> bf16;
};

extern const ChannelsIsa channels_portable;
#if defined(NOISEVOTE_X86)
extern const ChannelsIsa channels_avx2;
extern const ChannelsIsa channels_avx512;
#endif

}  // namespace noisevote

#endif  // NOISEVOTE_CHANNELS_H_
