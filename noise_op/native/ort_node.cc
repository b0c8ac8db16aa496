#include "ort_node.h"

#include <cstring>

namespace noisevote {
namespace {

using ort::Api;
using ort::KernelContext;
using ort::slot;
using ort::Status;
using ort::Value;

Status* read_shape(const Api* api, const Value* value, std::vector<int64_t>& shape) {
  ort::ShapeInfo* info = nullptr;
  if (Status* bad = slot<Status* (*)(const Value*, ort::ShapeInfo**)>(api, ort::kGetTensorTypeAndShape)(value, &info))
    return bad;
  size_t rank = 0;
  Status* bad = slot<Status* (*)(const ort::ShapeInfo*, size_t*)>(api, ort::kGetDimensionsCount)(info, &rank);
  if (bad == nullptr) {
    shape.resize(rank);
    bad = slot<Status* (*)(const ort::ShapeInfo*, int64_t*, size_t)>(api, ort::kGetDimensions)(info, shape.data(), rank);
  }
  slot<void (*)(ort::ShapeInfo*)>(api, ort::kReleaseTensorTypeAndShapeInfo)(info);
  return bad;
}

// Leaves `tensor` absent where the node has no such input.
Status* read_input(const Api* api, KernelContext* context, size_t index, Tensor& tensor) {
  size_t count = 0;
  if (Status* bad = slot<Status* (*)(KernelContext*, size_t*)>(api, ort::kKernelContextGetInputCount)(context, &count))
    return bad;
  if (index >= count) return nullptr;
  const Value* value = nullptr;
  if (Status* bad = slot<Status* (*)(KernelContext*, size_t, const Value**)>(api, ort::kKernelContextGetInput)(
          context, index, &value))
    return bad;
  if (value == nullptr) return nullptr;
  if (Status* bad = read_shape(api, value, tensor.shape)) return bad;
  void* data = nullptr;
  if (Status* bad = slot<Status* (*)(const Value*, void**)>(api, ort::kGetTensorMutableData)(value, &data)) return bad;
  tensor.data = data;
  return nullptr;
}

Status* check_vector(const Node& node, const char* name, const Tensor& tensor, int64_t rows) {
  if (tensor.shape.size() != 1 || tensor.shape[0] != rows)
    return invalid(node.api, "%s: %s must have shape [%lld], like the rows of sigma", node.op, name,
                   static_cast<long long>(rows));
  return nullptr;
}

Status* check_range(const Node& node, const char* name, const Tensor& tensor, int64_t count, int64_t last) {
  for (int64_t i = 0; i < count; ++i)
    if (tensor.ints()[i] < 0 || tensor.ints()[i] > last)
      return invalid(node.api, "%s: %s[%lld] = %lld is outside 0 .. %lld", node.op, name, static_cast<long long>(i),
                     static_cast<long long>(tensor.ints()[i]), static_cast<long long>(last));
  return nullptr;
}

Status* check_sigma(const Node& node, const Tensor& sigma, int64_t rows) {
  const auto* values = static_cast<const float*>(sigma.data);
  for (int64_t i = 0; i < 2 * rows; ++i)
    if (!(values[i] >= 0.0f) || values[i] > 3.0e38f)
      return invalid(node.api, "%s: sigma[%lld, %lld] = %g is not a finite number >= 0", node.op,
                     static_cast<long long>(i / 2), static_cast<long long>(i % 2), static_cast<double>(values[i]));
  return nullptr;
}

Status* check_inputs(const Node& node, const Tensor (&in)[kInputCount]) {
  if (in[kX].shape.empty()) return invalid(node.api, "%s: X must have a first dimension, the inputs", node.op);
  if (in[kSigma].shape.size() != 2 || in[kSigma].shape[1] != 2)
    return invalid(node.api, "%s: sigma must have shape [rows, 2]", node.op);
  const int64_t rows = in[kSigma].shape[0];
  if (Status* bad = check_sigma(node, in[kSigma], rows)) return bad;
  if (Status* bad = check_vector(node, "seed", in[kSeed], rows)) return bad;
  if (Status* bad = check_vector(node, "vote", in[kVote], rows)) return bad;
  if (Status* bad = check_range(node, "vote", in[kVote], rows, kMaxWord)) return bad;
  if (in[kRow].absent()) {
    if (in[kX].shape[0] != rows)
      return invalid(node.api, "%s: X has %lld rows and sigma %lld; without the input row they must be equal", node.op,
                     static_cast<long long>(in[kX].shape[0]), static_cast<long long>(rows));
  } else {
    if (Status* bad = check_vector(node, "row", in[kRow], rows)) return bad;
    if (Status* bad = check_range(node, "row", in[kRow], rows, in[kX].shape[0] - 1)) return bad;
  }
  if (!in[kStep].absent()) {
    if (!in[kStep].shape.empty()) return invalid(node.api, "%s: step must be a scalar", node.op);
    if (Status* bad = check_range(node, "step", in[kStep], 1, kMaxWord)) return bad;
  }
  return nullptr;
}

Status* make_output(const Node& node, KernelContext* context, Call& call) {
  std::vector<int64_t> shape = call.in[kX].shape;
  shape[0] = call.rows();
  Value* output = nullptr;
  if (Status* bad = slot<Status* (*)(KernelContext*, size_t, const int64_t*, size_t, Value**)>(
          node.api, ort::kKernelContextGetOutput)(context, 0, shape.data(), shape.size(), &output))
    return bad;
  return slot<Status* (*)(Value*, void**)>(node.api, ort::kGetTensorMutableData)(output, &call.y);
}

int input_characteristic(const ort::CustomOp*, size_t index) { return index < kRow ? ort::kRequired : ort::kOptional; }

}  // namespace

int64_t Call::count() const {
  int64_t count = 1;
  for (size_t axis = 1; axis < in[kX].shape.size(); ++axis) count *= in[kX].shape[axis];
  return count;
}

Status* open_call(const Node& node, KernelContext* context, Call& call) {
  for (size_t i = 0; i < kInputCount; ++i)
    if (Status* bad = read_input(node.api, context, i, call.in[i])) return bad;
  if (Status* bad = check_inputs(node, call.in)) return bad;
  return make_output(node, context, call);
}

Batch batch_of(const Node& node, const Call& call) {
  const Tensor(&in)[kInputCount] = call.in;
  const int64_t step = in[kStep].absent() ? 0 : *in[kStep].ints();
  return {call.rows(),
          1,
          call.count(),
          false,
          static_cast<const float*>(in[kSigma].data),
          in[kSeed].ints(),
          in[kVote].ints(),
          in[kRow].absent() ? nullptr : in[kRow].ints(),
          node.site,
          step,
          node.relu,
          node.draws};
}

Status* read_node(const Api* api, const char* op, const ort::KernelInfo* info, Node& node) {
  node = {api, op, 1, 0, false};
  using GetInt = Status* (*)(const ort::KernelInfo*, const char*, int64_t*);
  if (Status* bad = slot<GetInt>(api, ort::kKernelInfoGetAttributeInt64)(info, "site", &node.site)) return bad;
  if (node.site < 0 || node.site > kMaxWord)
    return invalid(api, "%s: site = %lld is outside 0 .. 2^32-1", op, static_cast<long long>(node.site));
  // Files of version 1 do not have it.
  if (Status* absent = slot<GetInt>(api, ort::kKernelInfoGetAttributeInt64)(info, "draws", &node.draws)) {
    slot<void (*)(Status*)>(api, ort::kReleaseStatus)(absent);
    node.draws = 1;
  }
  if (node.draws < 1 || node.draws > kVersions)
    return invalid(api, "%s: draws = %lld is outside 1 .. %lld; this library knows no such version", op,
                   static_cast<long long>(node.draws), static_cast<long long>(kVersions));
  char activation[16] = {};
  size_t size = sizeof activation;
  using GetString = Status* (*)(const ort::KernelInfo*, const char*, char*, size_t*);
  if (Status* bad = slot<GetString>(api, ort::kKernelInfoGetAttributeString)(info, "activation", activation, &size))
    return bad;
  node.relu = std::strcmp(activation, "relu") == 0;
  if (!node.relu && std::strcmp(activation, "none") != 0)
    return invalid(api, "%s: activation = \"%s\" is neither \"none\" nor \"relu\"", op, activation);
  return nullptr;
}

Status* in_parallel(const Api* api, KernelContext* context, void (*fn)(void*, size_t), int64_t tasks, void* data) {
  if (tasks == 1) {
    fn(data, 0);
    return nullptr;
  }
  using ParallelFor = Status* (*)(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*);
  return slot<ParallelFor>(api, ort::kKernelContextParallelFor)(context, fn, static_cast<size_t>(tasks), 0, data);
}

ort::CustomOp operator_base() {
  ort::CustomOp op{};
  op.version = ort::kApiVersion;
  op.GetExecutionProviderType = [](const ort::CustomOp*) { return "CPUExecutionProvider"; };
  op.GetInputTypeCount = [](const ort::CustomOp*) { return static_cast<size_t>(kInputCount); };
  op.GetOutputTypeCount = [](const ort::CustomOp*) { return size_t{1}; };
  op.GetInputCharacteristic = input_characteristic;
  op.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return static_cast<int>(ort::kRequired); };
  op.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return 0; };
  op.GetVariadicInputMinArity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicInputHomogeneity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicOutputMinArity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicOutputHomogeneity = [](const ort::CustomOp*) { return 0; };
  op.GetStartVersion = [](const ort::CustomOp*) { return 1; };
  op.GetEndVersion = [](const ort::CustomOp*) { return 1; };
  return op;
}

}  // namespace noisevote
