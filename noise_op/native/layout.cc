#include "layout.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

namespace noisevote {
namespace {

constexpr int64_t kTile = 1024;  // elements: 4 KB of normals

// Splits rows evenly; the calling thread takes a share. Threads are made for each call: tens of
// microseconds beside the milliseconds of a training batch, and nothing left running after it.
template <class Work>
void over_rows(int64_t rows, int threads, const Work& work) {
  const int64_t shares = std::max<int64_t>(1, std::min<int64_t>(threads, rows));
  std::vector<std::thread> others;
  for (int64_t share = 1; share < shares; ++share)
    others.emplace_back([&, share] { work(rows * share / shares, rows * (share + 1) / shares); });
  work(0, rows / shares);
  for (auto& other : others) other.join();
}

void apply(const Isa& isa, const Amplitude& a, const float* x, const float* z, float* y, size_t n) {
  isa.apply_f32(a, x, z, y, n);
}
void apply(const Isa& isa, const Amplitude& a, const Bf16* x, const float* z, Bf16* y, size_t n) {
  isa.apply_bf16(a, x, z, y, n);
}
void gradient(const Isa& isa, const Amplitude& a, const float* x, const float* y, const float* g, float* gx, size_t n) {
  isa.gradient_f32(a, x, y, g, gx, n);
}
void gradient(const Isa& isa, const Amplitude& a, const Bf16* x, const Bf16* y, const Bf16* g, Bf16* gx, size_t n) {
  isa.gradient_bf16(a, x, y, g, gx, n);
}

bool silent(const Amplitude& a) { return a.multiplicative == 0.0f && a.additive == 0.0f; }

template <class T>
void contiguous_range(const Isa& isa, const Stream& stream, const Amplitude& a, const T* x, T* y, int64_t begin,
                      int64_t end) {
  alignas(64) float z[kTile] = {};
  const bool draw = !silent(a);
  for (int64_t at = begin; at < end; at += kTile) {
    const int64_t n = std::min(kTile, end - at);
    if (draw) isa.normals(stream, static_cast<uint32_t>(at / 4), static_cast<size_t>((n + 3) / 4), z);
    apply(isa, a, x + at, z, y + at, static_cast<size_t>(n));
  }
}

template <class T>
void forward_rows(const Isa& isa, const Batch& batch, const T* x, T* y, int threads) {
  const int64_t count = batch.channels * batch.positions;
  over_rows(batch.rows, threads, [&](int64_t first, int64_t last) {
    std::unique_ptr<float[]> drawn, turned;
    if (batch.channels_last) {
      drawn = std::make_unique<float[]>(static_cast<size_t>(count + 3));
      turned = std::make_unique<float[]>(static_cast<size_t>(count));
    }
    for (int64_t row = first; row < last; ++row) {
      const Stream stream = make_stream(batch.seed[row], batch.site, batch.vote[row], batch.step);
      const Amplitude a = amplitude_of(batch, row);
      const T* from = x + (batch.source != nullptr ? batch.source[row] : row) * count;
      T* to = y + row * count;
      if (!batch.channels_last) {
        contiguous_range(isa, stream, a, from, to, 0, count);
        continue;
      }
      if (!silent(a)) {
        isa.normals(stream, 0, static_cast<size_t>((count + 3) / 4), drawn.get());
        isa.transpose(drawn.get(), static_cast<size_t>(batch.channels), static_cast<size_t>(batch.positions),
                      turned.get());
      }
      apply(isa, a, from, turned.get(), to, static_cast<size_t>(count));
    }
  });
}

// Elementwise, so the order of the elements does not matter.
template <class T>
void backward_rows(const Isa& isa, const Batch& batch, const T* x, const T* y, const T* g, T* gx, int threads) {
  const int64_t count = batch.channels * batch.positions;
  over_rows(batch.rows, threads, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const T* from = x + (batch.source != nullptr ? batch.source[row] : row) * count;
      const int64_t at = row * count;
      gradient(isa, amplitude_of(batch, row), from, y + at, g + at, gx + at, static_cast<size_t>(count));
    }
  });
}

}  // namespace

void noise_row(const Isa& isa, const Stream& stream, const Amplitude& a, const float* x, float* y, int64_t begin,
               int64_t end) {
  contiguous_range(isa, stream, a, x, y, begin, end);
}

void forward(const Isa& isa, const Batch& batch, const float* x, float* y, int threads) {
  forward_rows(isa, batch, x, y, threads);
}
void forward(const Isa& isa, const Batch& batch, const Bf16* x, Bf16* y, int threads) {
  forward_rows(isa, batch, x, y, threads);
}
void backward(const Isa& isa, const Batch& batch, const float* x, const float* y, const float* g, float* gx,
              int threads) {
  backward_rows(isa, batch, x, y, g, gx, threads);
}
void backward(const Isa& isa, const Batch& batch, const Bf16* x, const Bf16* y, const Bf16* g, Bf16* gx, int threads) {
  backward_rows(isa, batch, x, y, g, gx, threads);
}

}  // namespace noisevote
