// Plain C entry points for Python's ctypes: the torch twin's engine, and each instruction set on its own for tests.
#include "layout.h"

#define NOISEVOTE_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

const noisevote::Isa* isa_or_best(const char* name) {
  return name == nullptr ? &noisevote::best_isa() : noisevote::isa_named(name);
}

// nullptr for an unknown isa or version.
const noisevote::Draws* draws_of(const char* isa, int64_t version) {
  const noisevote::Isa* chosen = isa_or_best(isa);
  if (chosen == nullptr || version < 1 || version > noisevote::kVersions) return nullptr;
  return &chosen->draws[version - 1];
}

}  // namespace

// Name of the instruction set in use.
NOISEVOTE_EXPORT const char* noisevote_isa() { return noisevote::best_isa().name; }

// 1 if the instruction set called `name` can run here.
NOISEVOTE_EXPORT int noisevote_has_isa(const char* name) { return noisevote::isa_named(name) != nullptr; }

// Philox words of `blocks` blocks from `first`, out[4 * blocks]. Returns 0, or 1 for an unknown isa or version.
NOISEVOTE_EXPORT int noisevote_words(const char* isa, int64_t version, int64_t seed, int64_t site, int64_t vote, int64_t step,
                                     uint32_t first, size_t blocks, uint32_t* out) {
  const noisevote::Draws* chosen = draws_of(isa, version);
  if (chosen == nullptr) return 1;
  chosen->words(noisevote::make_stream(seed, site, vote, step), first, blocks, out);
  return 0;
}

// Normals of the same blocks, 4 of each in version 1, 8 in version 2.
NOISEVOTE_EXPORT int noisevote_normals(const char* isa, int64_t version, int64_t seed, int64_t site, int64_t vote, int64_t step,
                                       uint32_t first, size_t blocks, float* out) {
  const noisevote::Draws* chosen = draws_of(isa, version);
  if (chosen == nullptr) return 1;
  chosen->normals(noisevote::make_stream(seed, site, vote, step), first, blocks, out);
  return 0;
}

// The operator on a whole batch; bf16 != 0: x and y are bfloat16.
NOISEVOTE_EXPORT int noisevote_forward(const char* isa, const noisevote::Batch* batch, int bf16, const void* x, void* y,
                                       const noisevote::Team* team) {
  const noisevote::Isa* chosen = isa_or_best(isa);
  if (chosen == nullptr || draws_of(isa, batch->version) == nullptr) return 1;
  if (bf16 != 0)
    forward(*chosen, *batch, static_cast<const noisevote::Bf16*>(x), static_cast<noisevote::Bf16*>(y), *team);
  else
    forward(*chosen, *batch, static_cast<const float*>(x), static_cast<float*>(y), *team);
  return 0;
}

// The operator between signals of 8 bits.
NOISEVOTE_EXPORT int noisevote_forward_bytes(const char* isa, const noisevote::Batch* batch,
                                             const noisevote::Quantization* bytes, const void* x, void* y,
                                             const noisevote::Team* team) {
  const noisevote::Isa* chosen = isa_or_best(isa);
  if (chosen == nullptr || draws_of(isa, batch->version) == nullptr) return 1;
  forward(*chosen, *batch, *bytes, static_cast<const uint8_t*>(x), static_cast<uint8_t*>(y), *team);
  return 0;
}

// Its gradient with respect to the fanned-out signal.
NOISEVOTE_EXPORT int noisevote_backward(const char* isa, const noisevote::Batch* batch, int bf16, const void* x,
                                        const void* y, const void* g, void* gx,
                                        const noisevote::Team* team) {
  using noisevote::Bf16;
  const noisevote::Isa* chosen = isa_or_best(isa);
  if (chosen == nullptr || draws_of(isa, batch->version) == nullptr) return 1;
  if (bf16 != 0)
    backward(*chosen, *batch, static_cast<const Bf16*>(x), static_cast<const Bf16*>(y), static_cast<const Bf16*>(g),
             static_cast<Bf16*>(gx), *team);
  else
    backward(*chosen, *batch, static_cast<const float*>(x), static_cast<const float*>(y), static_cast<const float*>(g),
             static_cast<float*>(gx), *team);
  return 0;
}
