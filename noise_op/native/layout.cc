#include "layout.h"

#include <algorithm>
#include <type_traits>
#include <vector>

namespace noisevote {
namespace {

constexpr int64_t kTile = 1024;  // elements: 4 KB of normals

void apply(const Isa& isa, const Amplitude& a, const float* x, const float* z, float* y, size_t n) {
  isa.apply_f32(a, x, z, y, n);
}
void apply(const Isa& isa, const Amplitude& a, const Bf16* x, const float* z, Bf16* y, size_t n) {
  isa.apply_bf16(a, x, z, y, n);
}
void apply(const Isa& isa, const QuantizedAmplitude& a, const uint8_t* x, const float* z, uint8_t* y, size_t n) {
  isa.apply_u8(a, x, z, y, n);
}
void gradient(const Isa& isa, const Amplitude& a, const float* x, const float* y, const float* g, float* gx, size_t n) {
  isa.gradient_f32(a, x, y, g, gx, n);
}
void gradient(const Isa& isa, const Amplitude& a, const Bf16* x, const Bf16* y, const Bf16* g, Bf16* gx, size_t n) {
  isa.gradient_bf16(a, x, y, g, gx, n);
}

bool silent(const Amplitude& a) { return a.multiplicative == 0.0f && a.additive == 0.0f; }

// Groups of four positions whose normals fill about one tile.
size_t tile_groups(const Batch& batch) {
  return static_cast<size_t>(std::max<int64_t>(1, kTile / (4 * std::max<int64_t>(1, batch.channels))));
}

template <class A, class T>
void contiguous_range(const Isa& isa, const Draws& draws, const Stream& stream, const A& a, const T* x, T* y,
                      int64_t begin, int64_t end) {
  alignas(64) float z[kTile] = {};
  const bool draw = !silent(a);
  const auto per_block = static_cast<int64_t>(draws.per_block);
  for (int64_t at = begin; at < end; at += kTile) {
    const int64_t n = std::min(kTile, end - at);
    if (draw)
      draws.normals(stream, static_cast<uint32_t>(at / per_block), static_cast<size_t>((n + per_block - 1) / per_block), z);
    apply(isa, a, x + at, z, y + at, static_cast<size_t>(n));
  }
}

// Positions 4 * group .. of a channels-last row, tile by tile.
template <class A, class T>
void across_channels(const Isa& isa, const Draws& draws, const Batch& batch, const Stream& stream, const A& a,
                     const T* x, T* y, float* z) {
  const auto channels = static_cast<size_t>(batch.channels);
  const auto positions = static_cast<size_t>(batch.positions);
  const size_t tile = tile_groups(batch);
  for (size_t group = 0; group < positions / 4; group += tile) {
    const size_t groups = std::min(tile, positions / 4 - group);
    const size_t at = 4 * group * channels;
    if (!silent(a)) draws.normals_across(stream, channels, positions, group, groups, z);
    apply(isa, a, x + at, z, y + at, 4 * groups * channels);
  }
}

// Bytes are written as they are drawn, without a buffer between.
void across_channels(const Isa& isa, const Draws& draws, const Batch& batch, const Stream& stream,
                     const QuantizedAmplitude& a, const uint8_t* x, uint8_t* y, float* z) {
  if (silent(a))
    across_channels<QuantizedAmplitude, uint8_t>(isa, draws, batch, stream, a, x, y, z);
  else
    draws.noise_bytes_across(stream, a, static_cast<size_t>(batch.channels), static_cast<size_t>(batch.positions), x,
                             y);
}

// The same where a block of draws crosses from one channel into the next: a plain gather.
template <class A, class T>
void gathered(const Isa& isa, const Draws& draws, const Batch& batch, const Stream& stream, const A& a, const T* x,
              T* y, std::vector<float>& drawn, float* z) {
  const auto channels = static_cast<size_t>(batch.channels);
  const auto positions = static_cast<size_t>(batch.positions);
  draws.normals(stream, 0, drawn.size() / draws.per_block, drawn.data());
  for (size_t position = 0; position < positions; ++position) {
    for (size_t channel = 0; channel < channels; ++channel) z[channel] = drawn[channel * positions + position];
    apply(isa, a, x + position * channels, z, y + position * channels, channels);
  }
}

// Rows [first, last), each with the amplitude that `amplitude(row)` says.
template <class T, class AmplitudeOf>
void forward_range(const Isa& isa, const Batch& batch, const T* x, T* y, int64_t first, int64_t last,
                   const AmplitudeOf& amplitude) {
  const int64_t count = batch.channels * batch.positions;
  const bool across = batch.channels_last && batch.channels > 1 && batch.positions > 1;  // else both are one layout
  const Draws& draws = draws_of(isa, batch);
  const bool fast = batch.positions % 4 == 0 && (draws.normals_across != nullptr || std::is_same_v<T, uint8_t>);
  std::vector<float> z, drawn;
  if (across) z.resize(4 * tile_groups(batch) * static_cast<size_t>(batch.channels));
  const auto per_block = static_cast<int64_t>(draws.per_block);
  if (across && !fast) drawn.resize(static_cast<size_t>((count + per_block - 1) / per_block * per_block));
  for (int64_t row = first; row < last; ++row) {
    const Stream stream = make_stream(batch.seed[row], batch.site, batch.vote[row], batch.step);
    const auto a = amplitude(row);
    const T* from = x + (batch.source != nullptr ? batch.source[row] : row) * count;
    T* to = y + row * count;
    if (!across)
      contiguous_range(isa, draws, stream, a, from, to, 0, count);
    else if (fast)
      across_channels(isa, draws, batch, stream, a, from, to, z.data());
    else
      gathered(isa, draws, batch, stream, a, from, to, drawn, z.data());
  }
}

template <class T>
void forward_rows(const Isa& isa, const Batch& batch, const T* x, T* y, const Team& team) {
  over_rows(batch.rows, team, [&](int64_t first, int64_t last) {
    forward_range(isa, batch, x, y, first, last, [&](int64_t row) { return amplitude_of(batch, row); });
  });
}

// Elementwise, so the order of the elements does not matter.
template <class T>
void backward_rows(const Isa& isa, const Batch& batch, const T* x, const T* y, const T* g, T* gx, const Team& team) {
  const int64_t count = batch.channels * batch.positions;
  over_rows(batch.rows, team, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = x + (batch.source != nullptr ? batch.source[row] : row) * count;
      const int64_t at = row * count;
      gradient(isa, amplitude_of(batch, row), from, y + at, g + at, gx + at, static_cast<size_t>(count));
    }
  });
}

}  // namespace

void noise_row(const Isa& isa, const Draws& draws, const Stream& stream, const Amplitude& a, const float* x, float* y,
               int64_t begin, int64_t end) {
  contiguous_range(isa, draws, stream, a, x, y, begin, end);
}

void noise_bytes(const Isa& isa, const Batch& batch, const Quantization& bytes, const uint8_t* x, uint8_t* y,
                 int64_t first, int64_t last) {
  forward_range(isa, batch, x, y, first, last,
                [&](int64_t row) { return quantized_amplitude(amplitude_of(batch, row), bytes); });
}

void forward(const Isa& isa, const Batch& batch, const float* x, float* y, const Team& team) {
  forward_rows(isa, batch, x, y, team);
}
void forward(const Isa& isa, const Batch& batch, const Bf16* x, Bf16* y, const Team& team) {
  forward_rows(isa, batch, x, y, team);
}
void forward(const Isa& isa, const Batch& batch, const Quantization& bytes, const uint8_t* x, uint8_t* y,
             const Team& team) {
  over_rows(batch.rows, team,
            [&](int64_t first, int64_t last) { noise_bytes(isa, batch, bytes, x, y, first, last); });
}
void backward(const Isa& isa, const Batch& batch, const float* x, const float* y, const float* g, float* gx,
              const Team& team) {
  backward_rows(isa, batch, x, y, g, gx, team);
}
void backward(const Isa& isa, const Batch& batch, const Bf16* x, const Bf16* y, const Bf16* g, Bf16* gx,
              const Team& team) {
  backward_rows(isa, batch, x, y, g, gx, team);
}

}  // namespace noisevote
