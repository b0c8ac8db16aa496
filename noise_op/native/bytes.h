// Draws for a channels-last row of bytes and adds them while they are in registers; included inside the anonymous
// namespace of each isa_*.cc, after box_muller.h and nibble_sums.h.
//
// Lanes offers for it
//   load_bytes   the first `lanes` bytes at an address as floats
//   store_bytes  round(v) + zero_point as bytes, halves to the even number; v lies within what a byte can hold then
//   larger       the larger number, and the second one where the first is a NaN; smaller and absolute likewise

// How many lanes are written: all of them, which the compiler then knows, or a `size_t`.
template <class L>
using Whole = std::integral_constant<size_t, L::kWidth>;

// part(channel, lanes) for channels 0, kWidth, ... of a row.
template <class L, class Part>
inline void over_channels(size_t channels, const Part& part) {
  size_t channel = 0;
  for (; channel + L::kWidth <= channels; channel += L::kWidth) part(channel, Whole<L>{});
  if (channel < channels) part(channel, channels - channel);
}

// In steps of y, cut to what a byte can hold.
template <class L, class Kind, bool Relu>
inline typename L::F noisy_steps(const QuantizedAmplitude& a, typename L::F x, typename L::F z) {
  using F = typename L::F;
  const auto least = static_cast<float>(-a.y_zero_point);
  const F v = L::mul(L::sub(x, L::splat(static_cast<float>(a.zero_point))), L::splat(a.gain));
  const F noisy = L::add(v, L::mul(Kind::template lanes<L>(a, v), z));
  return L::smaller(L::larger(noisy, L::splat(Relu ? 0.0f : least)), L::splat(least + 255.0f));
}

// Four neighbouring positions. All are read before any is written: a load waits for an earlier store whose address
// ends in the same 12 bits, which x and y have often.
template <class L, class Kind, bool Relu, class Lanes>
inline void byte_lanes(const QuantizedAmplitude& a, const uint8_t* x, const typename L::F z[4], uint8_t* y,
                       size_t channels, Lanes lanes) {
  typename L::F v[4];
  for (size_t i = 0; i < 4; ++i) v[i] = L::load_bytes(x + i * channels, lanes);
  for (size_t i = 0; i < 4; ++i) v[i] = noisy_steps<L, Kind, Relu>(a, v[i], z[i]);
  for (size_t i = 0; i < 4; ++i) L::store_bytes(y + i * channels, v[i], a.y_zero_point, lanes);
}

// Lane l draws for channel (channel + l), as in fill_normals_across.
template <class L, class Kind, bool Relu>
void byte_row(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions, const uint8_t* x,
              uint8_t* y) {
  const RoundKeys keys = round_keys(stream);
  const auto stride = static_cast<uint32_t>(positions / 4);
  const auto steps = L::steps(stride);
  over_channels<L>(channels, [&](size_t channel, auto lanes) {
    for (uint32_t group = 0; group < stride; ++group) {
      typename L::F z[4];
      normal_vectors<L>(stream, keys, L::add_to(steps, L::wide(static_cast<uint32_t>(channel) * stride + group)), z);
      const size_t at = size_t{4} * group * channels + channel;
      byte_lanes<L, Kind, Relu>(a, x + at, z, y + at, channels, lanes);
    }
  });
}

constexpr float kSumUnit = 0x1p-28f;

// Version 2 on the same row. A channel whose number is odd may begin in the middle of a block, at its third word; so
// the words of four positions come from the upper half of one block in such lanes, and from the lower in others.
template <class L, class Kind, bool Relu>
struct SumRow {
  QuantizedAmplitude a;
  size_t channels;
  const uint8_t* x;
  uint8_t* y;

  // Four positions, of which the first is 4 * group. Sums are z times 2^28; a power of two rounds nothing, so where it
  // can be, that is part of the amplitude already.
  template <class Lanes>
  void four(typename L::U first, typename L::U second, size_t group, size_t channel, Lanes lanes) const {
    const typename L::U m = L::sums(first), n = L::sums(second);
    const typename L::F z[4] = {normals(L::low_sums(m)), normals(L::high_sums(m)), normals(L::low_sums(n)),
                                normals(L::high_sums(n))};
    const size_t at = 4 * group * channels + channel;
    byte_lanes<L, Kind, Relu>(a, x + at, z, y + at, channels, lanes);
  }
  static typename L::F normals(typename L::F sums) {
    return std::is_same_v<Kind, Both> ? L::mul(sums, L::splat(kSumUnit)) : sums;
  }
};

template <class L, class Kind, bool Relu>
void sum_row(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions, const uint8_t* x,
             uint8_t* y) {
  const RoundKeys keys = round_keys(stream);
  const auto groups = static_cast<uint32_t>(positions / 4);
  const auto begins = L::half(L::steps(groups));
  const auto shifted = L::odd_lanes(groups % 2 == 1);
  SumRow<L, Kind, Relu> row{a, channels, x, y};
  if (!std::is_same_v<Kind, Both>) {
    row.a.multiplicative *= kSumUnit;
    row.a.additive *= kSumUnit;
  }
  over_channels<L>(channels, [&](size_t channel, auto lanes) {
    const uint32_t first = static_cast<uint32_t>(channel) / 2 * groups;
    typename L::U w[4], before[2] = {L::splatu(0), L::splatu(0)};
    for (uint32_t group = 0; group < groups; group += 2) {
      philox_words<L, kRounds2>(stream, keys, L::add_to(begins, L::wide(first + group / 2)), w);
      if (group > 0)
        row.four(L::blend(shifted, before[0], w[0]), L::blend(shifted, before[1], w[1]), group - 1, channel, lanes);
      row.four(L::blend(shifted, w[0], w[2]), L::blend(shifted, w[1], w[3]), group, channel, lanes);
      before[0] = w[2];
      before[1] = w[3];
    }
    if (groups % 2 == 0) row.four(before[0], before[1], groups - 1, channel, lanes);
  });
}

// One of them, for a kind of noise and an activation.
template <class L>
struct BoxMullerRow {
  template <class Kind, bool Relu>
  static void run(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions,
                  const uint8_t* x, uint8_t* y) {
    byte_row<L, Kind, Relu>(stream, a, channels, positions, x, y);
  }
};
template <class L>
struct NibbleSumRow {
  template <class Kind, bool Relu>
  static void run(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions,
                  const uint8_t* x, uint8_t* y) {
    sum_row<L, Kind, Relu>(stream, a, channels, positions, x, y);
  }
};

template <class Row, class Kind>
void byte_row_of_kind(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions,
                      const uint8_t* x, uint8_t* y) {
  if (a.relu)
    Row::template run<Kind, true>(stream, a, channels, positions, x, y);
  else
    Row::template run<Kind, false>(stream, a, channels, positions, x, y);
}

template <class Row>
void noise_bytes_across(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions,
                        const uint8_t* x, uint8_t* y) {
  if (a.additive == 0.0f)
    byte_row_of_kind<Row, MultiplicativeOnly>(stream, a, channels, positions, x, y);
  else if (a.multiplicative == 0.0f)
    byte_row_of_kind<Row, AdditiveOnly>(stream, a, channels, positions, x, y);
  else
    byte_row_of_kind<Row, Both>(stream, a, channels, positions, x, y);
}
