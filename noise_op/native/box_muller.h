// Version 1's draws: ten rounds of Philox, and the quarter-wave Box-Muller transform. Four normals a block.
// Included after philox.h, in the same way.

constexpr int kRounds1 = 10;

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
  philox_words<L, kRounds1>(stream, keys, blocks, w);
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
void fill_normals(const Stream& stream, uint32_t first, size_t blocks, float* out) {
  fill_blocks<L, 4, store_normals<L>>(stream, first, blocks, out);
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
