// Picks the instruction set at run time.
#include <cstring>
#include <initializer_list>

#include "isa.h"

namespace noisevote {
namespace {

const Isa* avx512_if_runnable() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return avx512_isa();
#endif
  return nullptr;
}

const Isa* avx2_if_runnable() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_isa();
#endif
  return nullptr;
}

}  // namespace

const Isa& best_isa() {
  static const Isa* const best = [] {
    if (const Isa* isa = avx512_if_runnable()) return isa;
    if (const Isa* isa = avx2_if_runnable()) return isa;
    return portable_isa();
  }();
  return *best;
}

const Isa* isa_named(const char* name) {
  for (const Isa* isa : {avx512_if_runnable(), avx2_if_runnable(), portable_isa()})
    if (isa != nullptr && std::strcmp(isa->name, name) == 0) return isa;
  return nullptr;
}

}  // namespace noisevote
