// The operators of the domain, as ONNX Runtime is told of them.
#ifndef NOISEVOTE_ORT_OPERATOR_H_
#define NOISEVOTE_ORT_OPERATOR_H_

#include "ort_abi.h"

namespace noisevote {

ort::CustomOp gaussian_noise_operator();
ort::CustomOp quantized_noise_operator();

}  // namespace noisevote

#endif  // NOISEVOTE_ORT_OPERATOR_H_
