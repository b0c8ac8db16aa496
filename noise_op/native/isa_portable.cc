// Plain C++ for processors without a vector implementation of their own. The loops over lanes are
// written for the compiler to vectorise. A fused multiply-add is part of the definition of
// the draws (every path rounds alike), so x86 processors without one pay for it in software here.
#include <cmath>
#include <type_traits>

#include "isa.h"

namespace noisevote {
namespace {

#include "apply.h"
#include "philox.h"
#include "box_muller.h"
#include "nibble_sums.h"
#include "bytes.h"
#include "table.h"

template <class T, int N>
struct Array {
  T at[N];
};

struct PortableLanes {
  static constexpr int kWidth = 8;
  using V = uint64_t;
  using D = Array<uint64_t, kWidth>;
  using U = Array<uint32_t, kWidth>;
  using F = Array<float, kWidth>;

  template <class T, class Op>
  static T each(Op op) {
    T out;
    for (int i = 0; i < kWidth; ++i) out.at[i] = op(i);
    return out;
  }

  static V wide(uint64_t v) { return v; }
  static D fill(uint32_t v) { return each<D>([&](int) { return uint64_t{v}; }); }
  static D blocks(uint32_t b) { return each<D>([&](int i) { return uint64_t{b + static_cast<uint32_t>(i)}; }); }
  static D steps(uint32_t step) { return each<D>([&](int i) { return uint64_t{step} * static_cast<uint32_t>(i); }); }
  static D add_to(D a, V b) { return each<D>([&](int i) { return (a.at[i] + b) & 0xFFFFFFFFu; }); }
  static D multiply(D a, V b) { return each<D>([&](int i) { return (a.at[i] & 0xFFFFFFFFu) * b; }); }
  static D high(D a) { return each<D>([&](int i) { return a.at[i] >> 32; }); }
  static D xor3(D a, D b, V c) { return each<D>([&](int i) { return a.at[i] ^ b.at[i] ^ c; }); }
  static U join(D a) { return each<U>([&](int i) { return static_cast<uint32_t>(a.at[i]); }); }

  static U splatu(uint32_t v) { return each<U>([&](int) { return v; }); }
  static U addu(U a, U b) { return each<U>([&](int i) { return a.at[i] + b.at[i]; }); }
  static U subu(U a, U b) { return each<U>([&](int i) { return a.at[i] - b.at[i]; }); }
  static U andu(U a, U b) { return each<U>([&](int i) { return a.at[i] & b.at[i]; }); }
  static U xoru(U a, U b) { return each<U>([&](int i) { return a.at[i] ^ b.at[i]; }); }
  template <int N>
  static U logical_right(U a) { return each<U>([&](int i) { return a.at[i] >> N; }); }
  template <int N>
  static U logical_left(U a) { return each<U>([&](int i) { return a.at[i] << N; }); }
  template <int N>
  static U arithmetic_right(U a) {
    return each<U>([&](int i) { return static_cast<uint32_t>(static_cast<int32_t>(a.at[i]) >> N); });
  }

  static F splat(float v) { return each<F>([&](int) { return v; }); }
  static F add(F a, F b) { return each<F>([&](int i) { return a.at[i] + b.at[i]; }); }
  static F sub(F a, F b) { return each<F>([&](int i) { return a.at[i] - b.at[i]; }); }
  static F mul(F a, F b) { return each<F>([&](int i) { return a.at[i] * b.at[i]; }); }
  static F fma(F a, F b, F c) { return each<F>([&](int i) { return __builtin_fmaf(a.at[i], b.at[i], c.at[i]); }); }
  static F sqrt(F a) { return each<F>([&](int i) { return __builtin_sqrtf(a.at[i]); }); }
  static F from_unsigned(U a) { return each<F>([&](int i) { return static_cast<float>(a.at[i]); }); }
  static F from_signed(U a) { return each<F>([&](int i) { return static_cast<float>(static_cast<int32_t>(a.at[i])); }); }
  static U bits(F a) {
    U out;
    __builtin_memcpy(&out, &a, sizeof out);
    return out;
  }
  static F floats(U a) {
    F out;
    __builtin_memcpy(&out, &a, sizeof out);
    return out;
  }
  struct M {
    bool odd;
  };
  static M odd_lanes(bool any) { return {any}; }
  static U blend(M mask, U a, U b) {
    return each<U>([&](int i) { return mask.odd && i % 2 == 1 ? b.at[i] : a.at[i]; });
  }
  static D half(D a) { return each<D>([&](int i) { return a.at[i] >> 1; }); }
  // Both numbers in two's complement.
  static U sums(U words) {
    return each<U>([&](int i) {
      const auto low = static_cast<uint32_t>(sum_of(words.at[i] & 0xFFFFu));
      return (low & 0xFFFFu) | static_cast<uint32_t>(sum_of(words.at[i] >> 16)) << 16;
    });
  }
  static F low_sums(U n) { return from_signed(logical_left<16>(n)); }
  static F high_sums(U n) { return from_signed(andu(n, splatu(0xFFFF0000u))); }
  static void store_sums(float* out, const U w[4]) {
    for (int lane = 0; lane < kWidth; ++lane)
      for (int i = 0; i < 4; ++i) {
        const uint32_t word = w[i].at[lane];
        out[8 * lane + 2 * i] = static_cast<float>(sum_of(word & 0xFFFFu)) * 0x1p-12f;
        out[8 * lane + 2 * i + 1] = static_cast<float>(sum_of(word >> 16)) * 0x1p-12f;
      }
  }
  static F larger(F a, F b) { return each<F>([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; }); }
  static F smaller(F a, F b) { return each<F>([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; }); }
  static F absolute(F a) { return each<F>([&](int i) { return __builtin_fabsf(a.at[i]); }); }
  static F load_bytes(const uint8_t* x, size_t lanes) {
    F out{};
    for (size_t i = 0; i < lanes; ++i) out.at[i] = static_cast<float>(x[i]);
    return out;
  }
  static void store_bytes(uint8_t* y, F v, int32_t zero_point, size_t lanes) {
    for (size_t i = 0; i < lanes; ++i) y[i] = rounded_byte(v.at[i], zero_point);
  }
  static void store(float* out, F a, size_t lanes) {
    for (size_t i = 0; i < lanes; ++i) out[i] = a.at[i];
  }
  static void store_blocks(float* out, const F z[4]) {
    for (int lane = 0; lane < kWidth; ++lane)
      for (int i = 0; i < 4; ++i) out[4 * lane + i] = z[i].at[lane];
  }
};

constexpr Isa kPortable = make_isa<PortableLanes>("portable");

}  // namespace

const Isa* portable_isa() { return &kPortable; }

}  // namespace noisevote
