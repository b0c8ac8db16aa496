// What both noise operators have in common as nodes of ONNX Runtime: inputs, attributes, output, threads.
#ifndef NOISEVOTE_ORT_NODE_H_
#define NOISEVOTE_ORT_NODE_H_

#include <cstdio>
#include <vector>

#include "layout.h"
#include "ort_abi.h"

namespace noisevote {

enum Input : size_t { kX = 0, kSigma, kSeed, kVote, kRow, kStep, kInputCount };

constexpr int64_t kMaxWord = 0xFFFFFFFF;
constexpr int64_t kTask = 16384;  // elements: about 20 microseconds, well above the price of handing a task over

// One node of a graph, and what both operators have as attributes.
struct Node {
  const ort::Api* api;
  const char* op;
  int64_t draws;  // 1 or 2: the version of the operator
  int64_t site;
  bool relu;
};

struct Tensor {
  const void* data = nullptr;
  std::vector<int64_t> shape;

  bool absent() const { return data == nullptr && shape.empty(); }
  const int64_t* ints() const { return static_cast<const int64_t*>(data); }
};

// The inputs of one call, checked, and the memory of its output.
struct Call {
  Tensor in[kInputCount];
  void* y = nullptr;

  int64_t rows() const { return in[kSigma].shape[0]; }
  int64_t count() const;  // elements of a row
};

template <class... Parts>
ort::Status* invalid(const ort::Api* api, const char* format, Parts... parts) {
  char message[256];
  std::snprintf(message, sizeof message, format, parts...);
  return ort::create_status(api, ort::kInvalidArgument, message);
}

// Reads and checks the inputs, and has the output made. Functions return a status where something is wrong.
ort::Status* open_call(const Node&, ort::KernelContext*, Call&);

// A batch in C order; `channels` and `positions` may be told apart afterwards.
Batch batch_of(const Node&, const Call&);

ort::Status* read_node(const ort::Api*, const char* op, const ort::KernelInfo*, Node&);

// fn(data, 0) ... fn(data, tasks - 1) on ONNX Runtime's own threads.
ort::Status* in_parallel(const ort::Api*, ort::KernelContext*, void (*fn)(void*, size_t), int64_t tasks, void* data);

// All of an operator but its name, its type of signal, CreateKernelV2, KernelComputeV2 and KernelDestroy.
ort::CustomOp operator_base();

}  // namespace noisevote

#endif  // NOISEVOTE_ORT_NODE_H_
