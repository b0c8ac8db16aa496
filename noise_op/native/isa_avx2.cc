// 8 lanes of AVX2 with FMA. Lane 4i+p holds block 2p+i, so that store_blocks stays inside 128-bit parts.
#include <type_traits>

#include "isa.h"

#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>

namespace noisevote {
namespace {

#include "apply.h"
#include "philox.h"
#include "box_muller.h"
#include "nibble_sums.h"
#include "bytes.h"
#include "table.h"

struct Avx2Lanes {
  static constexpr int kWidth = 8;
  using V = __m256i;
  struct D {
    __m256i even, odd;
  };
  using U = __m256i;
  using F = __m256;

  static V wide(uint64_t v) { return _mm256_set1_epi64x(static_cast<int64_t>(v)); }
  static D fill(uint32_t v) { return {wide(v), wide(v)}; }
  static D blocks(uint32_t b) {
    return {_mm256_add_epi32(wide(b), _mm256_setr_epi64x(0, 4, 1, 5)),
            _mm256_add_epi32(wide(b), _mm256_setr_epi64x(2, 6, 3, 7))};
  }
  static D steps(uint32_t step) {
    return multiply({_mm256_setr_epi64x(0, 2, 4, 6), _mm256_setr_epi64x(1, 3, 5, 7)}, wide(step));
  }
  static D add_to(D a, V b) { return {_mm256_add_epi32(a.even, b), _mm256_add_epi32(a.odd, b)}; }
  static D multiply(D a, V b) { return {_mm256_mul_epu32(a.even, b), _mm256_mul_epu32(a.odd, b)}; }
  static D high(D a) { return {_mm256_srli_epi64(a.even, 32), _mm256_srli_epi64(a.odd, 32)}; }
  static D xor3(D a, D b, V c) { return {xor3(a.even, b.even, c), xor3(a.odd, b.odd, c)}; }
  static V xor3(V a, V b, V c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
  static U join(D a) { return _mm256_blend_epi32(a.even, _mm256_slli_epi64(a.odd, 32), 0xAA); }

  static U splatu(uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }
  static U addu(U a, U b) { return _mm256_add_epi32(a, b); }
  static U subu(U a, U b) { return _mm256_sub_epi32(a, b); }
  static U andu(U a, U b) { return _mm256_and_si256(a, b); }
  static U xoru(U a, U b) { return _mm256_xor_si256(a, b); }
  template <int N>
  static U logical_right(U a) { return _mm256_srli_epi32(a, N); }
  template <int N>
  static U logical_left(U a) { return _mm256_slli_epi32(a, N); }
  template <int N>
  static U arithmetic_right(U a) { return _mm256_srai_epi32(a, N); }

  static F splat(float v) { return _mm256_set1_ps(v); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F sqrt(F a) { return _mm256_sqrt_ps(a); }
  static F from_signed(U a) { return _mm256_cvtepi32_ps(a); }
  // AVX2 converts signed integers only. Both halves are exact and their sum rounds once.
  static F from_unsigned(U a) {
    const F high = _mm256_mul_ps(from_signed(logical_right<16>(a)), splat(65536.0f));
    return _mm256_add_ps(high, from_signed(andu(a, splatu(0xFFFFu))));
  }
  using M = __m256i;
  static M odd_lanes(bool any) { return any ? _mm256_set1_epi64x(static_cast<int64_t>(0xFFFFFFFF00000000u)) : _mm256_setzero_si256(); }
  static U blend(M mask, U a, U b) { return _mm256_blendv_epi8(a, b, mask); }
  static D half(D a) { return {_mm256_srli_epi64(a.even, 1), _mm256_srli_epi64(a.odd, 1)}; }
  static U table(const int8_t (&entries)[16]) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)));
  }
  static U sums(U words) {
    const U nibble = splatu(0x0F0F0F0Fu);
    const U low = andu(words, nibble);
    const U high = andu(_mm256_srli_epi16(words, 4), nibble);
    const U small =
        _mm256_add_epi8(_mm256_shuffle_epi8(table(kLow.small), low), _mm256_shuffle_epi8(table(kHigh.small), high));
    const U large =
        _mm256_add_epi8(_mm256_shuffle_epi8(table(kLow.large), low), _mm256_shuffle_epi8(table(kHigh.large), high));
    return _mm256_add_epi16(_mm256_maddubs_epi16(small, splatu(kWeights)),
                            _mm256_maddubs_epi16(splatu(16 * kWeights), large));
  }
  static F low_sums(U n) { return from_signed(logical_left<16>(n)); }
  static F high_sums(U n) { return from_signed(andu(n, splatu(0xFFFF0000u))); }
  static void store_sums(float* out, const U w[4]) {
    const U t0 = _mm256_unpacklo_epi32(w[0], w[1]);
    const U t1 = _mm256_unpackhi_epi32(w[0], w[1]);
    const U t2 = _mm256_unpacklo_epi32(w[2], w[3]);
    const U t3 = _mm256_unpackhi_epi32(w[2], w[3]);
    store_halves(out, _mm256_unpacklo_epi64(t0, t2));
    store_halves(out + 16, _mm256_unpackhi_epi64(t0, t2));
    store_halves(out + 32, _mm256_unpacklo_epi64(t1, t3));
    store_halves(out + 48, _mm256_unpackhi_epi64(t1, t3));
  }
  static void store_halves(float* out, U words) {
    const U n = sums(words);
    const F unit = splat(0x1p-12f);
    const F first = from_signed(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(n)));
    const F second = from_signed(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(n, 1)));
    _mm256_storeu_ps(out, _mm256_mul_ps(first, unit));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(second, unit));
  }
  static U bits(F a) { return _mm256_castps_si256(a); }
  static F floats(U a) { return _mm256_castsi256_ps(a); }
  static F larger(F a, F b) { return _mm256_max_ps(a, b); }
  static F smaller(F a, F b) { return _mm256_min_ps(a, b); }
  static F absolute(F a) { return _mm256_andnot_ps(splat(-0.0f), a); }
  static F load_bytes(const uint8_t* x, size_t lanes) {
    uint64_t bytes = 0;
    __builtin_memcpy(&bytes, x, lanes < 8 ? lanes : 8);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<int64_t>(bytes))));
  }
  static void store_bytes(uint8_t* y, F v, int32_t zero_point, size_t lanes) {
    const U whole = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(zero_point));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    const int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));
    __builtin_memcpy(y, &bytes, lanes < 8 ? lanes : 8);
  }
  static void store(float* out, F a, size_t lanes) {
    const U wanted = _mm256_cmpgt_epi32(splatu(static_cast<uint32_t>(lanes)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    _mm256_maskstore_ps(out, wanted, a);
  }
  static void store_blocks(float* out, const F z[4]) {
    const F t0 = _mm256_unpacklo_ps(z[0], z[1]);
    const F t1 = _mm256_unpackhi_ps(z[0], z[1]);
    const F t2 = _mm256_unpacklo_ps(z[2], z[3]);
    const F t3 = _mm256_unpackhi_ps(z[2], z[3]);
    _mm256_storeu_ps(out, _mm256_shuffle_ps(t0, t2, 0x44));
    _mm256_storeu_ps(out + 8, _mm256_shuffle_ps(t0, t2, 0xEE));
    _mm256_storeu_ps(out + 16, _mm256_shuffle_ps(t1, t3, 0x44));
    _mm256_storeu_ps(out + 24, _mm256_shuffle_ps(t1, t3, 0xEE));
  }
};

constexpr Isa kAvx2 = make_isa<Avx2Lanes>("avx2");

}  // namespace

const Isa* avx2_isa() { return &kAvx2; }

}  // namespace noisevote

#else

namespace noisevote {
const Isa* avx2_isa() { return nullptr; }
}  // namespace noisevote

#endif
