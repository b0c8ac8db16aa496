// Draws for a channels-last row of bytes and adds them while they are in registers; included inside the anonymous
// namespace of each isa_*.cc, after draws.h.
//
// Lanes offers for it
//   load_bytes   the first `lanes` bytes at an address as floats
//   store_bytes  round(v) + zero_point as bytes, halves to the even number; v lies within what a byte can hold then
//   larger       the larger number, and the second one where the first is a NaN; smaller and absolute likewise

template <class L, class Kind, bool Relu>
inline void byte_lanes(const QuantizedAmplitude& a, const uint8_t* x, typename L::F z, uint8_t* y, size_t lanes) {
  using F = typename L::F;
  const auto least = static_cast<float>(-a.y_zero_point);
  const F steps_of_x = L::sub(L::load_bytes(x, lanes), L::splat(static_cast<float>(a.zero_point)));
  const F v = L::mul(steps_of_x, L::splat(a.gain));
  const F noisy = L::add(v, L::mul(Kind::template lanes<L>(a, v), z));
  const F steps = L::smaller(L::larger(noisy, L::splat(Relu ? 0.0f : least)), L::splat(least + 255.0f));
  L::store_bytes(y, steps, a.y_zero_point, lanes);
}

// Lane l draws for channel (channel + l), as in fill_normals_across.
template <class L, class Kind, bool Relu>
void byte_row(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions, const uint8_t* x,
              uint8_t* y) {
  const RoundKeys keys = round_keys(stream);
  const auto stride = static_cast<uint32_t>(positions / 4);
  const auto steps = L::steps(stride);
  for (size_t channel = 0; channel < channels; channel += L::kWidth) {
    const size_t lanes = channels - channel < size_t{L::kWidth} ? channels - channel : size_t{L::kWidth};
    for (uint32_t group = 0; group < stride; ++group) {
      typename L::F z[4];
      normal_vectors<L>(stream, keys, L::add_to(steps, L::wide(static_cast<uint32_t>(channel) * stride + group)), z);
      for (size_t i = 0; i < 4; ++i) {
        const size_t at = (size_t{4} * group + i) * channels + channel;
        byte_lanes<L, Kind, Relu>(a, x + at, z[i], y + at, lanes);
      }
    }
  }
}

template <class L, class Kind>
void byte_row_of_kind(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions,
                      const uint8_t* x, uint8_t* y) {
  if (a.relu)
    byte_row<L, Kind, true>(stream, a, channels, positions, x, y);
  else
    byte_row<L, Kind, false>(stream, a, channels, positions, x, y);
}

template <class L>
void noise_bytes_across(const Stream& stream, const QuantizedAmplitude& a, size_t channels, size_t positions,
                        const uint8_t* x, uint8_t* y) {
  if (a.additive == 0.0f)
    byte_row_of_kind<L, MultiplicativeOnly>(stream, a, channels, positions, x, y);
  else if (a.multiplicative == 0.0f)
    byte_row_of_kind<L, AdditiveOnly>(stream, a, channels, positions, x, y);
  else
    byte_row_of_kind<L, Both>(stream, a, channels, positions, x, y);
}
