// 16 lanes of AVX-512. Lane 4i+p holds block 4p+i, so that store_blocks stays inside 128-bit parts.
#include <type_traits>

#include "isa.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__)

#include <immintrin.h>

namespace noisevote {
namespace {

#include "apply.h"
#include "philox.h"
#include "box_muller.h"
#include "nibble_sums.h"
#include "bytes.h"
#include "table.h"

struct Avx512Lanes {
  static constexpr int kWidth = 16;
  using V = __m512i;
  struct D {
    __m512i even, odd;
  };
  using U = __m512i;
  using F = __m512;

  static V wide(uint64_t v) { return _mm512_set1_epi64(static_cast<int64_t>(v)); }
  static D fill(uint32_t v) { return {wide(v), wide(v)}; }
  static D blocks(uint32_t b) {
    return {_mm512_add_epi32(wide(b), _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11)),
            _mm512_add_epi32(wide(b), _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15))};
  }
  static D steps(uint32_t step) {
    return multiply({_mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15)},
                    wide(step));
  }
  static D add_to(D a, V b) { return {_mm512_add_epi32(a.even, b), _mm512_add_epi32(a.odd, b)}; }
  static D multiply(D a, V b) { return {_mm512_mul_epu32(a.even, b), _mm512_mul_epu32(a.odd, b)}; }
  // A shuffle where a shift would do: it runs beside the multiplications, which the shift would wait for.
  static D high(D a) {
    return {_mm512_shuffle_epi32(a.even, _MM_PERM_DDBB), _mm512_shuffle_epi32(a.odd, _MM_PERM_DDBB)};
  }
  static D xor3(D a, D b, V c) {
    return {_mm512_ternarylogic_epi64(a.even, b.even, c, 0x96), _mm512_ternarylogic_epi64(a.odd, b.odd, c, 0x96)};
  }
  static U join(D a) { return _mm512_mask_blend_epi32(0xAAAA, a.even, _mm512_slli_epi64(a.odd, 32)); }

  static U splatu(uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
  static U addu(U a, U b) { return _mm512_add_epi32(a, b); }
  static U subu(U a, U b) { return _mm512_sub_epi32(a, b); }
  static U andu(U a, U b) { return _mm512_and_epi32(a, b); }
  static U xoru(U a, U b) { return _mm512_xor_epi32(a, b); }
  template <int N>
  static U logical_right(U a) { return _mm512_srli_epi32(a, N); }
  template <int N>
  static U logical_left(U a) { return _mm512_slli_epi32(a, N); }
  template <int N>
  static U arithmetic_right(U a) { return _mm512_srai_epi32(a, N); }

  static F splat(float v) { return _mm512_set1_ps(v); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  using M = __mmask16;
  static M odd_lanes(bool any) { return any ? 0xAAAA : 0; }
  static U blend(M mask, U a, U b) { return _mm512_mask_blend_epi32(mask, a, b); }
  static D half(D a) { return {_mm512_srli_epi64(a.even, 1), _mm512_srli_epi64(a.odd, 1)}; }
  static U table(const int8_t (&entries)[16]) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)));
  }
  static U sums(U words) {
    const U nibble = splatu(0x0F0F0F0Fu);
    const U low = _mm512_and_si512(words, nibble);
    const U high = _mm512_and_si512(_mm512_srli_epi16(words, 4), nibble);
    const U small =
        _mm512_add_epi8(_mm512_shuffle_epi8(table(kLow.small), low), _mm512_shuffle_epi8(table(kHigh.small), high));
    const U large =
        _mm512_add_epi8(_mm512_shuffle_epi8(table(kLow.large), low), _mm512_shuffle_epi8(table(kHigh.large), high));
    return _mm512_add_epi16(_mm512_maddubs_epi16(small, splatu(kWeights)),
                            _mm512_maddubs_epi16(splatu(16 * kWeights), large));
  }
  static F low_sums(U n) { return from_signed(_mm512_slli_epi32(n, 16)); }
  static F high_sums(U n) { return from_signed(_mm512_and_si512(n, splatu(0xFFFF0000u))); }
  static void store_sums(float* out, const U w[4]) {
    const U t0 = _mm512_unpacklo_epi32(w[0], w[1]);
    const U t1 = _mm512_unpackhi_epi32(w[0], w[1]);
    const U t2 = _mm512_unpacklo_epi32(w[2], w[3]);
    const U t3 = _mm512_unpackhi_epi32(w[2], w[3]);
    store_halves(out, _mm512_unpacklo_epi64(t0, t2));
    store_halves(out + 32, _mm512_unpackhi_epi64(t0, t2));
    store_halves(out + 64, _mm512_unpacklo_epi64(t1, t3));
    store_halves(out + 96, _mm512_unpackhi_epi64(t1, t3));
  }
  static void store_halves(float* out, U words) {
    const U n = sums(words);
    const F unit = splat(0x1p-12f);
    const F first = from_signed(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(n)));
    const F second = from_signed(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(n, 1)));
    _mm512_storeu_ps(out, _mm512_mul_ps(first, unit));
    _mm512_storeu_ps(out + 16, _mm512_mul_ps(second, unit));
  }
  static F from_unsigned(U a) { return _mm512_cvtepu32_ps(a); }
  static F from_signed(U a) { return _mm512_cvtepi32_ps(a); }
  static U bits(F a) { return _mm512_castps_si512(a); }
  static F floats(U a) { return _mm512_castsi512_ps(a); }
  static F larger(F a, F b) { return _mm512_max_ps(a, b); }
  static F smaller(F a, F b) { return _mm512_min_ps(a, b); }
  static F absolute(F a) { return _mm512_abs_ps(a); }
  static __mmask16 first(size_t lanes) { return static_cast<__mmask16>(0xFFFFu >> (16 - lanes)); }
  static F load_bytes(const uint8_t* x, size_t lanes) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(lanes), x)));
  }
  static void store_bytes(uint8_t* y, F v, int32_t zero_point, size_t lanes) {
    const U whole = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(zero_point));
    _mm_mask_storeu_epi8(y, first(lanes), _mm512_cvtepi32_epi8(whole));
  }
  static void store(float* out, F a, size_t lanes) {
    _mm512_mask_storeu_ps(out, first(lanes), a);
  }
  static void store_blocks(float* out, const F z[4]) {
    const F t0 = _mm512_unpacklo_ps(z[0], z[1]);
    const F t1 = _mm512_unpackhi_ps(z[0], z[1]);
    const F t2 = _mm512_unpacklo_ps(z[2], z[3]);
    const F t3 = _mm512_unpackhi_ps(z[2], z[3]);
    _mm512_storeu_ps(out, _mm512_shuffle_ps(t0, t2, 0x44));
    _mm512_storeu_ps(out + 16, _mm512_shuffle_ps(t0, t2, 0xEE));
    _mm512_storeu_ps(out + 32, _mm512_shuffle_ps(t1, t3, 0x44));
    _mm512_storeu_ps(out + 48, _mm512_shuffle_ps(t1, t3, 0xEE));
  }
};

constexpr Isa kAvx512 = make_isa<Avx512Lanes>("avx512");

}  // namespace

const Isa* avx512_isa() { return &kAvx512; }

}  // namespace noisevote

#else

namespace noisevote {
const Isa* avx512_isa() { return nullptr; }
}  // namespace noisevote

#endif
