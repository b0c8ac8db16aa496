// noisevote::QuantizedNoise as an ONNX Runtime custom operator: the same draws between two signals of 8 bits.
#include <algorithm>
#include <cmath>

#include "ort_node.h"
#include "ort_operator.h"

namespace noisevote {
namespace {

using ort::Api;
using ort::KernelContext;
using ort::slot;
using ort::Status;

struct Kernel {
  Node node;
  Quantization bytes;
  bool channels_last;
};

struct Run {
  Batch batch;
  Quantization bytes;
  const uint8_t* x;
  uint8_t* y;
  int64_t rows_per_task;
};

void do_task(void* user, size_t task) {
  const Run& run = *static_cast<const Run*>(user);
  const int64_t first = static_cast<int64_t>(task) * run.rows_per_task;
  const int64_t last = std::min(first + run.rows_per_task, run.batch.rows);
  noise_bytes(best_isa(), run.batch, run.bytes, run.x, run.y, first, last);
}

Status* compute(const Kernel& kernel, KernelContext* context) {
  Call call;
  if (Status* bad = open_call(kernel.node, context, call)) return bad;
  const int64_t rows = call.rows(), count = call.count();
  if (count == 0 || rows == 0) return nullptr;
  Batch batch = batch_of(kernel.node, call);
  if (kernel.channels_last) {
    batch.channels_last = true;
    batch.channels = call.in[kX].shape.back();
    batch.positions = count / batch.channels;
  }
  const int64_t rows_per_task = std::max<int64_t>(1, kTask / count);
  Run run{batch, kernel.bytes, static_cast<const uint8_t*>(call.in[kX].data), static_cast<uint8_t*>(call.y),
          rows_per_task};
  return in_parallel(kernel.node.api, context, do_task, (rows + rows_per_task - 1) / rows_per_task, &run);
}

Status* read_int(const Node& node, const ort::KernelInfo* info, const char* name, int64_t last, int64_t& value) {
  using GetInt = Status* (*)(const ort::KernelInfo*, const char*, int64_t*);
  if (Status* bad = slot<GetInt>(node.api, ort::kKernelInfoGetAttributeInt64)(info, name, &value)) return bad;
  if (value < 0 || value > last)
    return invalid(node.api, "%s: %s = %lld is outside 0 .. %lld", node.op, name, static_cast<long long>(value),
                   static_cast<long long>(last));
  return nullptr;
}

Status* read_factor(const Node& node, const ort::KernelInfo* info, const char* name, float& value) {
  using GetFloat = Status* (*)(const ort::KernelInfo*, const char*, float*);
  if (Status* bad = slot<GetFloat>(node.api, ort::kKernelInfoGetAttributeFloat)(info, name, &value)) return bad;
  if (!(value > 0.0f) || !std::isfinite(value))
    return invalid(node.api, "%s: %s = %g is not a finite number > 0", node.op, name, static_cast<double>(value));
  return nullptr;
}

Status* create_kernel(const ort::CustomOp*, const Api* api, const ort::KernelInfo* info, void** made) {
  Kernel kernel{};
  const Node& node = kernel.node;
  if (Status* bad = read_node(api, "QuantizedNoise", info, kernel.node)) return bad;
  int64_t zero_point = 0, y_zero_point = 0, channels_last = 0;
  if (Status* bad = read_factor(node, info, "scale", kernel.bytes.scale)) return bad;
  if (Status* bad = read_factor(node, info, "rate", kernel.bytes.rate)) return bad;
  if (Status* bad = read_int(node, info, "zero_point", 255, zero_point)) return bad;
  if (Status* bad = read_int(node, info, "y_zero_point", 255, y_zero_point)) return bad;
  if (Status* bad = read_int(node, info, "channels_last", 1, channels_last)) return bad;
  kernel.bytes.zero_point = static_cast<int32_t>(zero_point);
  kernel.bytes.y_zero_point = static_cast<int32_t>(y_zero_point);
  kernel.channels_last = channels_last == 1;
  *made = new Kernel{kernel};
  return nullptr;
}

int input_type(const ort::CustomOp*, size_t index) {
  if (index == kX) return ort::kUint8;
  return index == kSigma ? ort::kFloat : ort::kInt64;
}

}  // namespace

ort::CustomOp quantized_noise_operator() {
  ort::CustomOp op = operator_base();
  op.GetName = [](const ort::CustomOp*) { return "QuantizedNoise"; };
  op.GetInputType = input_type;
  op.GetOutputType = [](const ort::CustomOp*, size_t) { return static_cast<int>(ort::kUint8); };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = [](void* kernel, KernelContext* context) {
    return compute(*static_cast<const Kernel*>(kernel), context);
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  return op;
}

}  // namespace noisevote
