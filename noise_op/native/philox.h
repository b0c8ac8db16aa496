// Philox4x32 over the lanes of one instruction set: the words that both versions of the draws are made of.
//
// Included by each isa_*.cc before its Lanes type, inside that file's anonymous namespace: nothing here
// may be shared between translation units that were compiled for different processors.
//
// Lanes offers
//   kWidth   32-bit lanes of U and F
//   D, V     D holds kWidth lanes of 64 bits, whose low halves count; V the same constant in all of them
//   blocks   numbers first, first + 1, ... in an order in which store_blocks needs no movement across
//            128-bit parts; store_blocks undoes it
//   steps    0, step, 2 step, ... in the order in which `store` writes lanes.

constexpr uint32_t kMultiplier0 = 0xD2511F53u;  // Salmon et al. 2011, table 2
constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u;  // golden ratio
constexpr uint32_t kWeyl1 = 0xBB67AE85u;  // sqrt(3) - 1
constexpr int kMostRounds = 10;

// The round keys of one stream, made once a row: each round adds a Weyl constant to both words.
struct RoundKeys {
  uint64_t k0[kMostRounds];
  uint64_t k1[kMostRounds];
};

inline RoundKeys round_keys(const Stream& s) {
  RoundKeys keys;
  for (uint32_t round = 0; round < kMostRounds; ++round) {
    keys.k0[round] = s.key_low + round * kWeyl0;
    keys.k1[round] = s.key_high + round * kWeyl1;
  }
  return keys;
}

// A product's low half is the next state as it stands: the garbage above it is never read by the next
// multiplication.
template <class L, int kRounds>
inline void philox_words(const Stream& s, const RoundKeys& keys, typename L::D blocks, typename L::U w[4]) {
  typename L::D c[4] = {blocks, L::fill(s.site), L::fill(s.vote), L::fill(s.step)};
  for (int round = 0; round < kRounds; ++round) {
    const auto p0 = L::multiply(c[0], L::wide(kMultiplier0));
    const auto p1 = L::multiply(c[2], L::wide(kMultiplier1));
    c[0] = L::xor3(L::high(p1), c[1], L::wide(keys.k0[round]));
    c[1] = p1;
    c[2] = L::xor3(L::high(p0), c[3], L::wide(keys.k1[round]));
    c[3] = p0;
  }
  for (int i = 0; i < 4; ++i) w[i] = L::join(c[i]);
}

template <class L, int kRounds>
inline void store_words(const Stream& stream, const RoundKeys& keys, uint32_t first, float* out) {
  typename L::U w[4];
  philox_words<L, kRounds>(stream, keys, L::blocks(first), w);
  typename L::F z[4];
  for (int i = 0; i < 4; ++i) z[i] = L::floats(w[i]);
  L::store_blocks(out, z);
}

// `kPerBlock` numbers of each block: whole vectors straight to `out`, the last part through a buffer.
template <class L, size_t kPerBlock, void (*Store)(const Stream&, const RoundKeys&, uint32_t, float*)>
void fill_blocks(const Stream& stream, uint32_t first, size_t blocks, float* out) {
  const RoundKeys keys = round_keys(stream);
  size_t done = 0;
  for (; done + L::kWidth <= blocks; done += L::kWidth)
    Store(stream, keys, first + static_cast<uint32_t>(done), out + kPerBlock * done);
  if (done == blocks) return;
  alignas(64) float last[kPerBlock * L::kWidth];
  Store(stream, keys, first + static_cast<uint32_t>(done), last);
  for (size_t i = 0; i < kPerBlock * (blocks - done); ++i) out[kPerBlock * done + i] = last[i];
}

template <class L, int kRounds>
void fill_words(const Stream& stream, uint32_t first, size_t blocks, uint32_t* out) {
  fill_blocks<L, 4, store_words<L, kRounds>>(stream, first, blocks, reinterpret_cast<float*>(out));
}
