// noisevote::GaussianNoise as an ONNX Runtime custom operator: validation, then one plain function over rows,
// in parallel on ONNX Runtime's own threads.
#include "ort_operator.h"

#include <algorithm>

#include "ort_node.h"

namespace noisevote {
namespace {

using ort::Api;
using ort::KernelContext;
using ort::Status;

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
    noise_row(best_isa(), draws_of(best_isa(), run.batch), stream, amplitude_of(run.batch, row),
              run.x + source * run.count, run.y + row * run.count, begin, end);
  }
}

Status* compute(const Node& node, KernelContext* context) {
  Call call;
  if (Status* bad = open_call(node, context, call)) return bad;
  const int64_t rows = call.rows(), count = call.count();
  if (count == 0 || rows == 0) return nullptr;
  const int64_t tasks_per_row = (count + kTask - 1) / kTask;
  const int64_t rows_per_task = std::max<int64_t>(1, kTask / count);
  Run run{batch_of(node, call),    static_cast<const float*>(call.in[kX].data),
          static_cast<float*>(call.y), count, tasks_per_row, rows_per_task};
  return in_parallel(node.api, context, do_task, (rows + rows_per_task - 1) / rows_per_task * tasks_per_row, &run);
}

Status* create_kernel(const ort::CustomOp*, const Api* api, const ort::KernelInfo* info, void** kernel) {
  Node node;
  if (Status* bad = read_node(api, "GaussianNoise", info, node)) return bad;
  *kernel = new Node{node};
  return nullptr;
}

int input_type(const ort::CustomOp*, size_t index) { return index <= kSigma ? ort::kFloat : ort::kInt64; }

}  // namespace

ort::CustomOp gaussian_noise_operator() {
  ort::CustomOp op = operator_base();
  op.GetName = [](const ort::CustomOp*) { return "GaussianNoise"; };
  op.GetInputType = input_type;
  op.GetOutputType = [](const ort::CustomOp*, size_t) { return static_cast<int>(ort::kFloat); };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = [](void* kernel, KernelContext* context) {
    return compute(*static_cast<const Node*>(kernel), context);
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Node*>(kernel); };
  return op;
}

}  // namespace noisevote

// The entry point that SessionOptions.register_custom_ops_library looks up.
extern "C" __attribute__((visibility("default"))) noisevote::ort::Status* RegisterCustomOps(
    noisevote::ort::SessionOptions* options, const noisevote::ort::ApiBase* base) {
  using namespace noisevote::ort;
  const Api* api = base->GetApi(kApiVersion);
  if (api == nullptr) return nullptr;  // an ONNX Runtime older than API 22: the function bodies serve
  // They live as long as the process: sessions refer to them after the options are gone.
  static const CustomOp operators[] = {noisevote::gaussian_noise_operator(), noisevote::quantized_noise_operator()};
  CustomOpDomain* domain = nullptr;
  if (Status* bad = slot<Status* (*)(const char*, CustomOpDomain**)>(api, kCreateCustomOpDomain)("noisevote", &domain))
    return bad;
  for (const CustomOp& op : operators)
    if (Status* bad = slot<Status* (*)(CustomOpDomain*, const CustomOp*)>(api, kCustomOpDomainAdd)(domain, &op))
      return bad;
  return slot<Status* (*)(SessionOptions*, CustomOpDomain*)>(api, kAddCustomOpDomain)(options, domain);
}
