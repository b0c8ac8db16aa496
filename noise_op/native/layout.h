// A whole batch in memory: which row of x each output row reads, and in which order its elements lie.
#ifndef NOISEVOTE_LAYOUT_H_
#define NOISEVOTE_LAYOUT_H_

#include "isa.h"
#include "team.h"

namespace noisevote {

// Row r of the output reads row source[r] of x (nullptr: row r). A row has `channels * positions`
// elements; draws are numbered channel by channel. With channels_last they lie position by position.
struct Batch {
  int64_t rows;
  int64_t channels;
  int64_t positions;
  bool channels_last;
  const float* sigma;     // [rows, 2]
  const int64_t* seed;    // [rows]
  const int64_t* vote;    // [rows]
  const int64_t* source;  // [rows] or nullptr
  int64_t site;
  int64_t step;
  bool relu;
  int64_t version;  // of the operator: how it draws
};

inline const Draws& draws_of(const Isa& isa, const Batch& batch) { return isa.draws[batch.version - 1]; }

inline Amplitude amplitude_of(const Batch& batch, int64_t row) {
  return {batch.sigma[2 * row], batch.sigma[2 * row + 1], batch.relu};
}

// Elements [begin, end) of one row in C order, begin a multiple of 8. One pass over memory: normals are
// drawn tile by tile into a buffer that stays in the first-level cache.
void noise_row(const Isa&, const Draws&, const Stream&, const Amplitude&, const float* x, float* y, int64_t begin,
               int64_t end);

// Rows [first, last) of a batch of bytes, in either layout.
void noise_bytes(const Isa&, const Batch&, const Quantization&, const uint8_t* x, uint8_t* y, int64_t first,
                 int64_t last);

// The batch by a team.
void forward(const Isa&, const Batch&, const float* x, float* y, const Team&);
void forward(const Isa&, const Batch&, const Bf16* x, Bf16* y, const Team&);
void forward(const Isa&, const Batch&, const Quantization&, const uint8_t* x, uint8_t* y, const Team&);

// Gradient of every row with respect to the (fanned-out) signal: gx has as many rows as y.
void backward(const Isa&, const Batch&, const float* x, const float* y, const float* g, float* gx, const Team&);
void backward(const Isa&, const Batch&, const Bf16* x, const Bf16* y, const Bf16* g, Bf16* gx, const Team&);

}  // namespace noisevote

#endif  // NOISEVOTE_LAYOUT_H_
