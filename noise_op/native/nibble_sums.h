// Version 2's draws: seven rounds of Philox, and of every 16 bits a sum of four table entries. Eight normals a block.
// Included after philox.h, in the same way.
//
// Half h of word i (h = 0 the low 16 bits) makes normal 2i + h of its block. Its bytes b0 (the low one) and b1 give
// n = kWeight0 T(b0) + kWeight1 T(b1) with T(b) = kLow[b & 15] + kHigh[b >> 4], and z = n * 2^-12, which float32 holds
// exactly. noise_op/nibble_tables.py says what the numbers are and how they were found.
//
// Lanes offers for it
//   sums         n of both halves of every word, as two numbers of 16 bits in its place
//   low_sums     the n of the low halves, as floats and times 2^16; high_sums those of the high halves
//   store_sums   z of all halves of the words of `kWidth` blocks, in C order
//   odd_lanes    as M: none, or every other lane beginning with the second
//   blend        lanes of b where M has them, else those of a
//   half         every number of a D halved, rounded down

constexpr int kRounds2 = 7;
constexpr size_t kPerBlock2 = 8;

// A table is split in two, entry = large * 16 + small, since bytes are what is shuffled and multiplied.
struct Nibbles {
  int8_t small[16];
  int8_t large[16];
};

constexpr Nibbles nibbles(const int16_t (&upper)[8]) {
  Nibbles split{};
  for (int i = 0; i < 16; ++i) {
    const int entry = i < 8 ? -upper[7 - i] : upper[i - 8];
    const int small = ((entry % 16) + 16) % 16;
    split.small[i] = static_cast<int8_t>(small);
    split.large[i] = static_cast<int8_t>((entry - small) / 16);
  }
  return split;
}

// The upper halves of both tables: entry 15 - i is minus entry i.
constexpr int16_t kLowUpper[8] = {36, 67, 75, 127, 166, 239, 269, 415};
constexpr int16_t kHighUpper[8] = {10, 14, 31, 45, 62, 77, 88, 359};
constexpr int kWeight0 = 11;
constexpr int kWeight1 = 12;

// As bytes, in turns.
constexpr uint32_t kWeights = kWeight0 * 0x00010001u + kWeight1 * 0x01000100u;

constexpr Nibbles kLow = nibbles(kLowUpper);
constexpr Nibbles kHigh = nibbles(kHighUpper);

// T of a byte.
inline int entry_of(uint32_t byte) {
  return kLow.large[byte & 15] * 16 + kLow.small[byte & 15] + kHigh.large[byte >> 4] * 16 + kHigh.small[byte >> 4];
}

// n of 16 bits.
inline int sum_of(uint32_t half) { return kWeight0 * entry_of(half & 255) + kWeight1 * entry_of(half >> 8); }

template <class L>
inline void store_sums(const Stream& stream, const RoundKeys& keys, uint32_t first, float* out) {
  typename L::U w[4];
  philox_words<L, kRounds2>(stream, keys, L::blocks(first), w);
  L::store_sums(out, w);
}

template <class L>
void fill_sums(const Stream& stream, uint32_t first, size_t blocks, float* out) {
  fill_blocks<L, kPerBlock2, store_sums<L>>(stream, first, blocks, out);
}
