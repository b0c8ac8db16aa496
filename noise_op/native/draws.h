// Philox4x32-10 and the quarter-wave Box-Muller transform over the lanes of one instruction set.
//
// Included by each isa_*.cc after its Lanes type, inside that file's anonymous namespace: nothing here
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
constexpr int kRounds = 10;

// The round keys of one stream, made once a row: each round adds a Weyl constant to both words.
struct RoundKeys {
  uint64_t k0[kRounds];
  uint64_t k1[kRounds];
};

inline RoundKeys round_keys(const Stream& s) {
  RoundKeys keys;
  for (uint32_t round = 0; round < kRounds; ++round) {
    keys.k0[round] = s.key_low + round * kWeyl0;
    keys.k1[round] = s.key_high + round * kWeyl1;
  }
  return keys;
}

// Ten rounds. A product's low half is the next state as it stands: the garbage above it is never
// read by the next multiplication.
template <class L>
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

// r = sqrt(-2 ln u), u = (float(w) + 0.5) * 2^-32. The factors 2^-32 and -2 are folded into the constants:
// scaling by a power of two rounds nothing.
template <class L>
inline typename L::F radius(typename L::U w) {
  using F = typename L::F;
  const F scaled = L::add(L::from_unsigned(w), L::splat(0.5f));  // 2^32 u
  // u = 2^e * m with m in [sqrt(1/2), sqrt(2)): ln u = e ln 2 + ln m.
  constexpr uint32_t kRootHalf = 0x3F3504F3u;
  constexpr uint32_t kTwoTo32 = 32u << 23;  // as an exponent
  const auto shifted = L::subu(L::bits(scaled), L::splatu(kRootHalf + kTwoTo32));
  const F e = L::from_signed(L::template arithmetic_right<23>(shifted));
  const F m = L::floats(L::addu(L::andu(shifted, L::splatu(0x007FFFFFu)), L::splatu(kRootHalf)));
  const F x = L::sub(m, L::splat(1.0f));
  // ln(1 + x) = x - x^2/2 + x^3 P(x), P a minimax fit of relative error 6e-9; here times -2.
  F p = L::splat(-2 * -0.0763446014f);
  p = L::fma(p, x, L::splat(-2 * 0.127615625f));
  p = L::fma(p, x, L::splat(-2 * -0.131601893f));
  p = L::fma(p, x, L::splat(-2 * 0.142017604f));
  p = L::fma(p, x, L::splat(-2 * -0.166233569f));
  p = L::fma(p, x, L::splat(-2 * 0.200012268f));
  p = L::fma(p, x, L::splat(-2 * -0.25000821f));
  p = L::fma(p, x, L::splat(-2 * 0.333333317f));
  const F xx = L::mul(x, x);
  F ln = L::mul(e, L::splat(-2 * -2.12194440e-4f));  // ln 2 in two parts, the other one exact in few bits
  ln = L::fma(L::mul(xx, x), p, ln);
  ln = L::add(ln, xx);
  ln = L::fma(x, L::splat(-2.0f), ln);
  ln = L::fma(e, L::splat(-2 * 0.693359375f), ln);
  return L::sqrt(ln);
}

// sin(pi/2 * f) for f in [0, 1], relative error 5e-9 before rounding.
template <class L>
inline typename L::F quarter_sine(typename L::F f) {
  using F = typename L::F;
  const F t = L::mul(f, f);
  F p = L::splat(0.000151485121f);
  p = L::fma(p, t, L::splat(-0.00467376659f));
  p = L::fma(p, t, L::splat(0.0796896789f));
  p = L::fma(p, t, L::splat(-0.645963711f));
  p = L::fma(p, t, L::splat(1.57079632f));
  return L::mul(p, f);
}

// Two normals from two words: even = r cos, odd = r sin, each quarter wave with a sign bit of its own.
template <class L>
inline void box_muller(typename L::U w_radius, typename L::U w_angle, typename L::F& even, typename L::F& odd) {
  using F = typename L::F;
  const F r = radius<L>(w_radius);
  const auto k = L::andu(L::template logical_right<6>(w_angle), L::splatu(0x00FFFFFEu));
  const F f = L::mul(L::from_signed(L::addu(k, L::splatu(1u))), L::splat(0x1p-24f));
  const F c = quarter_sine<L>(L::sub(L::splat(1.0f), f));
  const F s = quarter_sine<L>(f);
  const auto sign = L::splatu(0x80000000u);
  even = L::mul(r, L::floats(L::xoru(L::bits(c), L::andu(w_angle, sign))));
  odd = L::mul(r, L::floats(L::xoru(L::bits(s), L::andu(L::template logical_left<1>(w_angle), sign))));
}

// z[i] holds normal i of each of the blocks.
template <class L>
inline void normal_vectors(const Stream& stream, const RoundKeys& keys, typename L::D blocks, typename L::F z[4]) {
  typename L::U w[4];
  philox_words<L>(stream, keys, blocks, w);
  box_muller<L>(w[0], w[1], z[0], z[1]);
  box_muller<L>(w[2], w[3], z[2], z[3]);
}

template <class L>
inline void store_normals(const Stream& stream, const RoundKeys& keys, uint32_t first, float* out) {
  typename L::F z[4];
  normal_vectors<L>(stream, keys, L::blocks(first), z);
  L::store_blocks(out, z);
}

template <class L>
inline void store_words(const Stream& stream, const RoundKeys& keys, uint32_t first, float* out) {
  typename L::U w[4];
  philox_words<L>(stream, keys, L::blocks(first), w);
  typename L::F z[4];
  for (int i = 0; i < 4; ++i) z[i] = L::floats(w[i]);
  L::store_blocks(out, z);
}

// Whole vectors straight to `out`, the last part through a buffer.
template <class L, void (*Store)(const Stream&, const RoundKeys&, uint32_t, float*)>
void fill_blocks(const Stream& stream, uint32_t first, size_t blocks, float* out) {
  const RoundKeys keys = round_keys(stream);
  size_t done = 0;
  for (; done + L::kWidth <= blocks; done += L::kWidth)
    Store(stream, keys, first + static_cast<uint32_t>(done), out + 4 * done);
  if (done == blocks) return;
  alignas(64) float last[4 * L::kWidth];
  Store(stream, keys, first + static_cast<uint32_t>(done), last);
  for (size_t i = 0; i < 4 * (blocks - done); ++i) out[4 * done + i] = last[i];
}

template <class L>
void fill_normals(const Stream& stream, uint32_t first, size_t blocks, float* out) {
  fill_blocks<L, store_normals<L>>(stream, first, blocks, out);
}

template <class L>
void fill_words(const Stream& stream, uint32_t first, size_t blocks, uint32_t* out) {
  fill_blocks<L, store_words<L>>(stream, first, blocks, reinterpret_cast<float*>(out));
}

// The normals of a channels-last signal as they lie in memory: out[4 * groups, channels] for the positions
// from 4 * first_group on. Lanes run across channels, so nothing is ever transposed: lane l draws block
// (channel + l) * positions / 4 + group, whose four normals belong to four neighbouring positions.
template <class L>
void fill_normals_across(const Stream& stream, size_t channels, size_t positions, size_t first_group, size_t groups,
                         float* out) {
  const RoundKeys keys = round_keys(stream);
  const auto stride = static_cast<uint32_t>(positions / 4);
  const auto steps = L::steps(stride);
  for (size_t group = 0; group < groups; ++group) {
    for (size_t channel = 0; channel < channels; channel += L::kWidth) {
      const auto first = static_cast<uint32_t>(channel) * stride + static_cast<uint32_t>(first_group + group);
      typename L::F z[4];
      normal_vectors<L>(stream, keys, L::add_to(steps, L::wide(first)), z);
      const size_t lanes = channels - channel < size_t{L::kWidth} ? channels - channel : size_t{L::kWidth};
      for (size_t i = 0; i < 4; ++i) L::store(out + (4 * group + i) * channels + channel, z[i], lanes);
    }
  }
}
