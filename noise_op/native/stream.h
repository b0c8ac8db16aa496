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

// A bfloat16 in memory: the upper half of a float32.
struct Bf16 {
  uint16_t bits;
};

}  // namespace noisevote

#endif  // NOISEVOTE_STREAM_H_
