// Plain C entry points for Python's ctypes: each instruction set by its name, nullptr for the widest that runs here.
#include <cstring>

#include "channels.h"

#define NOISEVOTE_EXPORT extern "C" __attribute__((visibility("default")))

using noisevote::Affine;
using noisevote::Bf16;
using noisevote::ChannelsIsa;
using noisevote::Span;
using noisevote::Team;

namespace {

const ChannelsIsa* isa_or_best(const char* name) {
  const auto wanted = [name](const ChannelsIsa& isa) { return name == nullptr || std::strcmp(isa.name, name) == 0; };
#if defined(NOISEVOTE_X86)
  if (wanted(noisevote::channels_avx512) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return &noisevote::channels_avx512;
  if (wanted(noisevote::channels_avx2) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return &noisevote::channels_avx2;
#endif
  return wanted(noisevote::channels_portable) ? &noisevote::channels_portable : nullptr;
}

template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* out(void* p) {
  return static_cast<T*>(p);
}

}  // namespace

// 1 if the instruction set called `name` can run here.
NOISEVOTE_EXPORT int noisevote_channels_has_isa(const char* name) { return isa_or_best(name) != nullptr; }

// The functions of channels.h; bf16 != 0: signals are bfloat16. Each returns 0, or 1 for an unknown isa.
NOISEVOTE_EXPORT int noisevote_place(const char* isa, int bf16, const Span* span, const void* x, void* into, double* sums,
                                     const Team* team) {
  const ChannelsIsa* chosen = isa_or_best(isa);
  if (chosen == nullptr) return 1;
  if (bf16 != 0)
    chosen->bf16.place(*span, in<Bf16>(x), out<Bf16>(into), sums, *team);
  else
    chosen->f32.place(*span, in<float>(x), out<float>(into), sums, *team);
  return 0;
}

NOISEVOTE_EXPORT int noisevote_activate(const char* isa, int bf16, const Span* span, const void* x, const float* scale,
                                        const float* shift, void* y, const Team* team) {
  const ChannelsIsa* chosen = isa_or_best(isa);
  if (chosen == nullptr) return 1;
  const Affine affine{scale, shift};
  if (bf16 != 0)
    chosen->bf16.activate(*span, in<Bf16>(x), affine, out<Bf16>(y), *team);
  else
    chosen->f32.activate(*span, in<float>(x), affine, out<float>(y), *team);
  return 0;
}

NOISEVOTE_EXPORT int noisevote_collect(const char* isa, int bf16, const Span* span, const void* g, const void* x,
                                       const float* scale, const float* shift, const float* weight, int first,
                                       void* into, double* sums, const Team* team) {
  const ChannelsIsa* chosen = isa_or_best(isa);
  if (chosen == nullptr) return 1;
  const Affine affine{scale, shift};
  if (bf16 != 0)
    chosen->bf16.collect(*span, in<Bf16>(g), in<Bf16>(x), affine, weight, first != 0, out<Bf16>(into), sums, *team);
  else
    chosen->f32.collect(*span, in<float>(g), in<float>(x), affine, weight, first != 0, out<float>(into), sums, *team);
  return 0;
}

NOISEVOTE_EXPORT int noisevote_through(const char* isa, int bf16, const Span* span, const void* g, const void* x,
                                       const float* gain, const float* slope, const float* offset, void* y,
                                       const Team* team) {
  const ChannelsIsa* chosen = isa_or_best(isa);
  if (chosen == nullptr) return 1;
  if (bf16 != 0)
    chosen->bf16.through(*span, in<Bf16>(g), in<Bf16>(x), gain, slope, offset, out<Bf16>(y), *team);
  else
    chosen->f32.through(*span, in<float>(g), in<float>(x), gain, slope, offset, out<float>(y), *team);
  return 0;
}
