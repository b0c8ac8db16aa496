// What addresses a draw: the Philox key and the part of the counter that one row shares.
#ifndef NOISEVOTE_STREAM_H_
#define NOISEVOTE_STREAM_H_

#include <cstddef>
#include <cstdint>

namespace noisevote {

struct Stream {
  uint32_t key_low;   // low 32 bits of the row's seed
  uint32_t key_high;  // high 32 bits
  uint32_t site;
  uint32_t vote;
  uint32_t step;
};

inline Stream make_stream(int64_t seed, int64_t site, int64_t vote, int64_t step) {
  const auto key = static_cast<uint64_t>(seed);
  return {static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(site),
          static_cast<uint32_t>(vote), static_cast<uint32_t>(step)};
}

// The noise of one row: y = act(x + sqrt((multiplicative * x)^2 + additive^2) * z).
struct Amplitude {
  float multiplicative;
  float additive;
  bool relu;
};

// How signals of 8 bits are read and written: x = (byte - zero_point) * scale, and what becomes of it is
// y_zero_point + y * rate, to the nearest byte, halves to the even one. In between all is counted in steps of y.
struct Quantization {
  float scale;
  float rate;
  int32_t zero_point;
  int32_t y_zero_point;
};

// The noise of one row between two signals of 8 bits, in steps: a step of x is `gain` steps of y.
struct QuantizedAmplitude : Amplitude {
  float gain;
  int32_t zero_point;
  int32_t y_zero_point;
};

inline QuantizedAmplitude quantized_amplitude(const Amplitude& a, const Quantization& q) {
  return {{a.multiplicative, a.additive * q.rate, a.relu}, q.scale * q.rate, q.zero_point, q.y_zero_point};
}

// A bfloat16 in memory: the upper half of a float32.
struct Bf16 {
  uint16_t bits;
};

}  // namespace noisevote

#endif  // NOISEVOTE_STREAM_H_
