// Compiled once for each instruction set, NOISEVOTE_ISA naming it. Sixteen channels at a time, the last ones masked.
#include "channels.h"

#include <map>
#include <mutex>
#include <utility>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define NOISEVOTE_TEXT_(name) #name
#define NOISEVOTE_TEXT(name) NOISEVOTE_TEXT_(name)
#define NOISEVOTE_JOIN_(a, b) a##b
#define NOISEVOTE_JOIN(a, b) NOISEVOTE_JOIN_(a, b)

namespace noisevote {
namespace {

constexpr int64_t kWidth = 16;
constexpr int64_t kTile = 32;  // rows whose sums are kept in float

#if defined(__AVX512F__)

using F = __m512;
using Mask = __mmask16;

inline Mask first(int64_t count) { return count >= kWidth ? 0xFFFF : static_cast<Mask>((1u << count) - 1); }
inline F zero() { return _mm512_setzero_ps(); }
inline F load(const float* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
inline F load(const Bf16* p, Mask m) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
}
inline void store(float* p, F v, Mask m) { _mm512_mask_storeu_ps(p, m, v); }
// Round to nearest, ties to even; a NaN stays a NaN.
inline void store(Bf16* p, F v, Mask m) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(_mm512_set1_epi32(0x7FFF), odd));
  const Mask nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_mov_epi32(_mm512_srli_epi32(up, 16), nan, _mm512_set1_epi32(0x7FC0));
  _mm256_mask_storeu_epi16(p, m, _mm512_cvtepi32_epi16(kept));
}
inline F add(F a, F b) { return _mm512_add_ps(a, b); }
inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F mul_add(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
// a where z > 0 or is not a number, else 0.
inline F where_positive(F z, F a) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(z, zero(), _CMP_NLE_UQ), a); }
inline F negative(F a) { return _mm512_sub_ps(zero(), a); }

#else

struct F {
  float at[kWidth];
};
using Mask = int64_t;  // how many lanes, from the first on

template <class Op>
inline F each(Op op) {
  F out;
  for (int i = 0; i < kWidth; ++i) out.at[i] = op(i);
  return out;
}
inline float number(float v) { return v; }
inline float number(Bf16 v) {
  const uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float out;
  __builtin_memcpy(&out, &bits, sizeof out);
  return out;
}
inline void put(float* p, float v) { *p = v; }
inline void put(Bf16* p, float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  p->bits = static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : rounded);
}
inline Mask first(int64_t count) { return std::min(count, kWidth); }
inline F zero() { return F{}; }
template <class T>
inline F load(const T* p, Mask m) {
  if (m == kWidth) return each([&](int i) { return number(p[i]); });
  F out{};
  for (int64_t i = 0; i < m; ++i) out.at[i] = number(p[i]);
  return out;
}
template <class T>
inline void store(T* p, const F& v, Mask m) {
  if (m == kWidth)
    for (int i = 0; i < kWidth; ++i) put(p + i, v.at[i]);
  else
    for (int64_t i = 0; i < m; ++i) put(p + i, v.at[i]);
}
inline F add(const F& a, const F& b) { return each([&](int i) { return a.at[i] + b.at[i]; }); }
inline F mul(const F& a, const F& b) { return each([&](int i) { return a.at[i] * b.at[i]; }); }
inline F mul_add(const F& a, const F& b, const F& c) { return each([&](int i) { return a.at[i] * b.at[i] + c.at[i]; }); }
inline F where_positive(const F& z, const F& a) { return each([&](int i) { return z.at[i] <= 0.0f ? 0.0f : a.at[i]; }); }
inline F negative(const F& a) { return each([&](int i) { return -a.at[i]; }); }

#endif

// Adds up the sums of all shares of the rows in the order of the rows, so that the same threads make the same total.
class Sums {
 public:
  Sums(int64_t channels, double* out) : channels_(channels), out_(out) {}
  ~Sums() {
    std::fill(out_, out_ + 2 * channels_, 0.0);
    for (const auto& share : shares_)
      for (int64_t i = 0; i < 2 * channels_; ++i) out_[i] += share.second[i];
  }

  // Those of the rows from `begin` on.
  class Share {
   public:
    Share(Sums& all, int64_t begin) : all_(all), begin_(begin), own_(2 * all.channels_, 0.0) {}
    ~Share() {
      const std::lock_guard<std::mutex> held(all_.lock_);
      all_.shares_.emplace(begin_, std::move(own_));
    }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    // Sums of the channels from `at` on over a few rows.
    void take(int64_t at, F one, F other) {
      const int64_t count = std::min(kWidth, all_.channels_ - at);
      float lanes[2][kWidth];
      store(lanes[0], one, first(kWidth));
      store(lanes[1], other, first(kWidth));
      for (int64_t i = 0; i < count; ++i) {
        own_[at + i] += lanes[0][i];
        own_[all_.channels_ + at + i] += lanes[1][i];
      }
    }

   private:
    Sums& all_;
    const int64_t begin_;
    std::vector<double> own_;
  };

 private:
  const int64_t channels_;
  double* const out_;
  std::mutex lock_;
  std::map<int64_t, std::vector<double>> shares_;
};

template <class T>
void place(const Span& span, const T* x, T* into, double* out, const Team& team) {
  Sums sums(span.channels, out);
  over_rows(span.rows, team, [&](int64_t begin, int64_t end) {
    Sums::Share share(sums, begin);
    for (int64_t tile = begin; tile < end; tile += kTile)
      for (int64_t at = 0; at < span.channels; at += kWidth) {
        const Mask m = first(span.channels - at);
        F sum = zero(), squares = zero();
        for (int64_t row = tile; row < std::min(end, tile + kTile); ++row) {
          const F v = load(x + row * span.channels + at, m);
          sum = add(sum, v);
          squares = mul_add(v, v, squares);
          store(into + row * span.stride + at, v, m);
        }
        share.take(at, sum, squares);
      }
  });
}

// op(row, channel, mask) for each sixteen channels of each row.
template <class Op>
void over_channels(const Span& span, const Team& team, const Op& op) {
  over_rows(span.rows, team, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t at = 0; at < span.channels; at += kWidth) op(row, at, first(span.channels - at));
  });
}

template <class T>
void activate(const Span& span, const T* x, const Affine& affine, T* y, const Team& team) {
  over_channels(span, team, [&](int64_t row, int64_t at, Mask m) {
    const F z = mul_add(load(x + row * span.stride + at, m), load(affine.scale + at, m), load(affine.shift + at, m));
    store(y + row * span.channels + at, where_positive(z, z), m);
  });
}

template <class T>
void collect(const Span& span, const T* g, const T* x, const Affine& affine, const float* weight, bool is_first, T* into,
             double* out, const Team& team) {
  Sums sums(span.channels, out);
  over_rows(span.rows, team, [&](int64_t begin, int64_t end) {
    Sums::Share share(sums, begin);
    for (int64_t tile = begin; tile < end; tile += kTile)
      for (int64_t at = 0; at < span.channels; at += kWidth) {
        const Mask m = first(span.channels - at);
        const F scale = load(affine.scale + at, m), shift = load(affine.shift + at, m), gain = load(weight + at, m);
        F sum = zero(), products = zero();
        for (int64_t row = tile; row < std::min(end, tile + kTile); ++row) {
          T* const to = into + row * span.stride + at;
          const F v = load(x + row * span.stride + at, m);
          const F dz = where_positive(mul_add(v, scale, shift), load(g + row * span.channels + at, m));
          sum = add(sum, dz);
          products = mul_add(dz, v, products);
          store(to, is_first ? mul(dz, gain) : mul_add(dz, gain, load(to, m)), m);
        }
        share.take(at, sum, products);
      }
  });
}

template <class T>
void through(const Span& span, const T* g, const T* x, const float* gain, const float* slope, const float* offset, T* y,
             const Team& team) {
  over_channels(span, team, [&](int64_t row, int64_t at, Mask m) {
    const F own = mul_add(load(x + row * span.stride + at, m), load(slope + at, m), load(offset + at, m));
    const F v = mul_add(load(g + row * span.stride + at, m), load(gain + at, m), negative(own));
    store(y + row * span.channels + at, v, m);
  });
}

template <class T>
constexpr Functions<T> functions() {
  return {place<T>, activate<T>, collect<T>, through<T>};
}

}  // namespace

extern const ChannelsIsa NOISEVOTE_JOIN(channels_, NOISEVOTE_ISA);
const ChannelsIsa NOISEVOTE_JOIN(channels_, NOISEVOTE_ISA) = {NOISEVOTE_TEXT(NOISEVOTE_ISA), functions<float>(),
                                                             functions<Bf16>()};

}  // namespace noisevote
