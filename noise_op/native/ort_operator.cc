// noisevote::GaussianNoise as an ONNX Runtime custom operator: validation, then one plain function over rows,
// in parallel on ONNX Runtime's own threads.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "layout.h"
#include "ort_abi.h"

namespace noisevote {
namespace {

using ort::Api;
using ort::KernelContext;
using ort::slot;
using ort::Status;
using ort::Value;

enum Input : size_t { kX = 0, kSigma, kSeed, kVote, kRow, kStep, kInputCount };

constexpr int64_t kMaxWord = 0xFFFFFFFF;
constexpr int64_t kTask = 16384;  // elements: about 20 microseconds, well above the price of handing a task over

struct Kernel {
  const Api* api;
  int64_t site;
  bool relu;
};

struct Tensor {
  const void* data = nullptr;
  std::vector<int64_t> shape;

  bool absent() const { return data == nullptr && shape.empty(); }
  const int64_t* ints() const { return static_cast<const int64_t*>(data); }
};

template <class... Parts>
Status* invalid(const Api* api, const char* format, Parts... parts) {
  char message[256];
  std::snprintf(message, sizeof message, format, parts...);
  return ort::create_status(api, ort::kInvalidArgument, message);
}

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

Status* check_vector(const Api* api, const char* name, const Tensor& tensor, int64_t rows) {
  if (tensor.shape.size() != 1 || tensor.shape[0] != rows)
    return invalid(api, "GaussianNoise: %s must have shape [%lld], like the rows of sigma", name,
                   static_cast<long long>(rows));
  return nullptr;
}

Status* check_range(const Api* api, const char* name, const Tensor& tensor, int64_t count, int64_t last) {
  for (int64_t i = 0; i < count; ++i)
    if (tensor.ints()[i] < 0 || tensor.ints()[i] > last)
      return invalid(api, "GaussianNoise: %s[%lld] = %lld is outside 0 .. %lld", name, static_cast<long long>(i),
                     static_cast<long long>(tensor.ints()[i]), static_cast<long long>(last));
  return nullptr;
}

Status* check_sigma(const Api* api, const Tensor& sigma, int64_t rows) {
  const auto* values = static_cast<const float*>(sigma.data);
  for (int64_t i = 0; i < 2 * rows; ++i)
    if (!(values[i] >= 0.0f) || values[i] > 3.0e38f)
      return invalid(api, "GaussianNoise: sigma[%lld, %lld] = %g is not a finite number >= 0",
                     static_cast<long long>(i / 2), static_cast<long long>(i % 2), static_cast<double>(values[i]));
  return nullptr;
}

Status* check_inputs(const Api* api, const Tensor (&in)[kInputCount]) {
  if (in[kX].shape.empty()) return invalid(api, "GaussianNoise: X must have a first dimension, the inputs");
  if (in[kSigma].shape.size() != 2 || in[kSigma].shape[1] != 2)
    return invalid(api, "GaussianNoise: sigma must have shape [rows, 2]");
  const int64_t rows = in[kSigma].shape[0];
  if (Status* bad = check_sigma(api, in[kSigma], rows)) return bad;
  if (Status* bad = check_vector(api, "seed", in[kSeed], rows)) return bad;
  if (Status* bad = check_vector(api, "vote", in[kVote], rows)) return bad;
  if (Status* bad = check_range(api, "vote", in[kVote], rows, kMaxWord)) return bad;
  if (in[kRow].absent()) {
    if (in[kX].shape[0] != rows)
      return invalid(api, "GaussianNoise: X has %lld rows and sigma %lld; without the input row they must be equal",
                     static_cast<long long>(in[kX].shape[0]), static_cast<long long>(rows));
  } else {
    if (Status* bad = check_vector(api, "row", in[kRow], rows)) return bad;
    if (Status* bad = check_range(api, "row", in[kRow], rows, in[kX].shape[0] - 1)) return bad;
  }
  if (!in[kStep].absent()) {
    if (!in[kStep].shape.empty()) return invalid(api, "GaussianNoise: step must be a scalar");
    if (Status* bad = check_range(api, "step", in[kStep], 1, kMaxWord)) return bad;
  }
  return nullptr;
}

// Work for one run: `tasks` pieces, each some elements of one row or some whole short rows.
struct Run {
  Batch batch;
  const float* x;
  float* y;
  int64_t count;          // elements of a row
  int64_t tasks_per_row;  // long rows are cut ...
  int64_t rows_per_task;  // ... short ones put together
};

void do_task(void* user, size_t task) {
  const Run& run = *static_cast<const Run*>(user);
  const auto index = static_cast<int64_t>(task);
  const int64_t first = index / run.tasks_per_row * run.rows_per_task;
  const int64_t last = std::min(first + run.rows_per_task, run.batch.rows);
  const int64_t begin = index % run.tasks_per_row * kTask;
  const int64_t end = run.tasks_per_row == 1 ? run.count : std::min(begin + kTask, run.count);
  for (int64_t row = first; row < last; ++row) {
    const Stream stream = make_stream(run.batch.seed[row], run.batch.site, run.batch.vote[row], run.batch.step);
    const int64_t source = run.batch.source != nullptr ? run.batch.source[row] : row;
    noise_row(best_isa(), stream, amplitude_of(run.batch, row), run.x + source * run.count, run.y + row * run.count,
              begin, end);
  }
}

Status* run_tasks(const Api* api, KernelContext* context, Run& run) {
  if (run.count == 0 || run.batch.rows == 0) return nullptr;
  run.tasks_per_row = (run.count + kTask - 1) / kTask;
  run.rows_per_task = std::max<int64_t>(1, kTask / run.count);
  const int64_t tasks = (run.batch.rows + run.rows_per_task - 1) / run.rows_per_task * run.tasks_per_row;
  if (tasks == 1) {
    do_task(&run, 0);
    return nullptr;
  }
  using ParallelFor = Status* (*)(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*);
  return slot<ParallelFor>(api, ort::kKernelContextParallelFor)(context, do_task, static_cast<size_t>(tasks), 0, &run);
}

Status* compute(const Kernel& kernel, KernelContext* context) {
  const Api* api = kernel.api;
  Tensor in[kInputCount];
  for (size_t i = 0; i < kInputCount; ++i)
    if (Status* bad = read_input(api, context, i, in[i])) return bad;
  if (Status* bad = check_inputs(api, in)) return bad;

  const int64_t rows = in[kSigma].shape[0];
  std::vector<int64_t> shape = in[kX].shape;
  shape[0] = rows;
  Value* output = nullptr;
  if (Status* bad = slot<Status* (*)(KernelContext*, size_t, const int64_t*, size_t, Value**)>(
          api, ort::kKernelContextGetOutput)(context, 0, shape.data(), shape.size(), &output))
    return bad;
  void* y = nullptr;
  if (Status* bad = slot<Status* (*)(Value*, void**)>(api, ort::kGetTensorMutableData)(output, &y)) return bad;

  int64_t count = 1;
  for (size_t axis = 1; axis < shape.size(); ++axis) count *= shape[axis];
  const int64_t step = in[kStep].absent() ? 0 : *in[kStep].ints();
  const Batch batch{rows,
                    1,
                    count,
                    false,
                    static_cast<const float*>(in[kSigma].data),
                    in[kSeed].ints(),
                    in[kVote].ints(),
                    in[kRow].absent() ? nullptr : in[kRow].ints(),
                    kernel.site,
                    step,
                    kernel.relu};
  Run run{batch, static_cast<const float*>(in[kX].data), static_cast<float*>(y), count, 1, 1};
  return run_tasks(api, context, run);
}

Status* create_kernel(const ort::CustomOp*, const Api* api, const ort::KernelInfo* info, void** kernel) {
  int64_t site = 0;
  using GetInt = Status* (*)(const ort::KernelInfo*, const char*, int64_t*);
  if (Status* bad = slot<GetInt>(api, ort::kKernelInfoGetAttributeInt64)(info, "site", &site)) return bad;
  if (site < 0 || site > kMaxWord)
    return invalid(api, "GaussianNoise: site = %lld is outside 0 .. 2^32-1", static_cast<long long>(site));
  char activation[16] = {};
  size_t size = sizeof activation;
  using GetString = Status* (*)(const ort::KernelInfo*, const char*, char*, size_t*);
  if (Status* bad = slot<GetString>(api, ort::kKernelInfoGetAttributeString)(info, "activation", activation, &size))
    return bad;
  const bool relu = std::strcmp(activation, "relu") == 0;
  if (!relu && std::strcmp(activation, "none") != 0)
    return invalid(api, "GaussianNoise: activation = \"%s\" is neither \"none\" nor \"relu\"", activation);
  *kernel = new Kernel{api, site, relu};
  return nullptr;
}

int input_type(const ort::CustomOp*, size_t index) { return index <= kSigma ? ort::kFloat : ort::kInt64; }
int input_characteristic(const ort::CustomOp*, size_t index) { return index < kRow ? ort::kRequired : ort::kOptional; }

ort::CustomOp make_operator() {
  ort::CustomOp op{};
  op.version = ort::kApiVersion;
  op.GetName = [](const ort::CustomOp*) { return "GaussianNoise"; };
  op.GetExecutionProviderType = [](const ort::CustomOp*) { return "CPUExecutionProvider"; };
  op.GetInputType = input_type;
  op.GetInputTypeCount = [](const ort::CustomOp*) { return static_cast<size_t>(kInputCount); };
  op.GetOutputType = [](const ort::CustomOp*, size_t) { return static_cast<int>(ort::kFloat); };
  op.GetOutputTypeCount = [](const ort::CustomOp*) { return size_t{1}; };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.GetInputCharacteristic = input_characteristic;
  op.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return static_cast<int>(ort::kRequired); };
  op.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return 0; };
  op.GetVariadicInputMinArity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicInputHomogeneity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicOutputMinArity = [](const ort::CustomOp*) { return 0; };
  op.GetVariadicOutputHomogeneity = [](const ort::CustomOp*) { return 0; };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = [](void* kernel, KernelContext* context) {
    return compute(*static_cast<const Kernel*>(kernel), context);
  };
  op.GetStartVersion = [](const ort::CustomOp*) { return 1; };
  op.GetEndVersion = [](const ort::CustomOp*) { return 1; };
  return op;
}

}  // namespace
}  // namespace noisevote

// The entry point that SessionOptions.register_custom_ops_library looks up.
extern "C" __attribute__((visibility("default"))) noisevote::ort::Status* RegisterCustomOps(
    noisevote::ort::SessionOptions* options, const noisevote::ort::ApiBase* base) {
  using namespace noisevote::ort;
  const Api* api = base->GetApi(kApiVersion);
  if (api == nullptr) return nullptr;  // an ONNX Runtime older than API 22: the function body serves
  // Both live as long as the process: sessions refer to them after the options are gone.
  static const CustomOp op = noisevote::make_operator();
  CustomOpDomain* domain = nullptr;
  if (Status* bad = slot<Status* (*)(const char*, CustomOpDomain**)>(api, kCreateCustomOpDomain)("noisevote", &domain))
    return bad;
  if (Status* bad = slot<Status* (*)(CustomOpDomain*, const CustomOp*)>(api, kCustomOpDomainAdd)(domain, &op)) return bad;
  return slot<Status* (*)(SessionOptions*, CustomOpDomain*)>(api, kAddCustomOpDomain)(options, domain);
}
