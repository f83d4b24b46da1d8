// SPDX-License-Identifier: Apache-2.0
// The ops as TensorFlow sees them: TacotuneNf4Decode (a dense weight of a packed one, on CPU and, where it was compiled, GPU)
// and TacotuneNf4Product (few rows times a packed weight, CPU). Bytes come as tensors of bool, the only type of one byte that
// TensorFlow.js has and TensorFlow keeps on a GPU; only these kernels read them. A wrong call sets a status, which arrives as
// a JavaScript exception.
#include "ops.h"

#include <cstring>
#include <string>

#include "kernels/quant.h"
#include "nf4.h"
#include "tensorflow.h"

namespace tacotune::tensorflow {
namespace {

// A change of inputs or attributes is another name, since names live as long as the process: no two copies of this addon may
// mean different ops by one name, and TensorFlow aborts where a name is registered twice.
constexpr const char* DECODE = "TacotuneNf4Decode1";
constexpr const char* PRODUCT = "TacotuneNf4Product1";

struct Sizes {
  int64_t N, K;
};

/// The inputs of one call and what has gone wrong so far; lets go of them when it ends.
class Call {
 public:
  explicit Call(OpKernelContext* context) : context_(context), status_(NewStatus()) {}
  ~Call() {
    for (Tensor* tensor : inputs_)
      if (tensor) DeleteTensor(tensor);
    if (output_) DeleteTensor(output_);
    DeleteStatus(status_);
  }
  Call(const Call&) = delete;

  bool failed() const { return GetCode(status_) != OK; }
  void report() {
    if (failed()) OpKernelContext_Failure(context_, status_);
  }
  void fail(const std::string& message) {
    if (!failed()) SetStatus(status_, INVALID_ARGUMENT, message.c_str());
  }

  /// The data of input i, which must have at least so many bytes.
  const void* input(int i, int64_t least) {
    if (failed()) return nullptr;
    GetInput(context_, i, &inputs_[i], status_);
    if (failed()) return nullptr;
    if (bytes(i) < least) fail("input " + std::to_string(i) + " has " + std::to_string(bytes(i)) + " bytes, expected " + std::to_string(least));
    return TensorData(inputs_[i]);
  }
  int64_t bytes(int i) const { return static_cast<int64_t>(TensorByteSize(inputs_[i])); }

  float* output(int64_t rows, int64_t columns) {
    if (failed()) return nullptr;
    const int64_t sizes[] = {rows, columns};
    output_ = AllocateOutput(context_, 0, FLOAT, sizes, 2, static_cast<size_t>(rows * columns) * sizeof(float), status_);
    return failed() ? nullptr : static_cast<float*>(TensorData(output_));
  }

  /// The four parts of a weight, from input `first` on.
  Nf4Weight weight(int first, const Sizes& sizes) {
    const int64_t blocks = (sizes.N * sizes.K + NF4_BLOCK - 1) / NF4_BLOCK;
    Nf4Weight weight = {};
    weight.N = sizes.N;
    weight.K = sizes.K;
    weight.codes = static_cast<const uint8_t*>(input(first, blocks * (NF4_BLOCK / 2)));
    weight.absmax_codes = static_cast<const uint8_t*>(input(first + 1, 0));
    const bool nested = !failed() && bytes(first + 1) > 0;
    if (nested && bytes(first + 1) < blocks) fail("fewer absmax codes than blocks");
    if (!nested) weight.absmax_codes = nullptr;
    const int64_t scales = nested ? (blocks + NESTED_BLOCK - 1) / NESTED_BLOCK : blocks;
    weight.absmax = static_cast<const float*>(input(first + 2, scales * 4));
    weight.offset = static_cast<const float*>(input(first + 3, 4));
    return weight;
  }

 private:
  OpKernelContext* context_;
  Status* status_;
  Tensor* inputs_[5] = {};
  Tensor* output_ = nullptr;
};

void* create(OpKernelConstruction* construction) {
  Sizes* sizes = new Sizes{};
  Status* status = NewStatus();
  OpKernelConstruction_GetAttrInt64(construction, "N", &sizes->N, status);
  if (GetCode(status) == OK) OpKernelConstruction_GetAttrInt64(construction, "K", &sizes->K, status);
  if (GetCode(status) == OK && (sizes->N < 0 || sizes->K < 0 || sizes->N > INT64_MAX / 8 / (sizes->K + 1)))
    SetStatus(status, INVALID_ARGUMENT, "N and K are no sizes of a weight");
  if (GetCode(status) != OK) OpKernelConstruction_Failure(construction, status);
  DeleteStatus(status);
  return sizes;
}

void destroy(void* sizes) { delete static_cast<Sizes*>(sizes); }

void compute_decode(void* kernel, OpKernelContext* context) {
  const Sizes& sizes = *static_cast<Sizes*>(kernel);
  Call call(context);
  const Nf4Weight weight = call.weight(0, sizes);
  float* out = call.output(sizes.N, sizes.K);
  if (out) nf4_decode(out, weight);
  call.report();
}

void compute_product(void* kernel, OpKernelContext* context) {
  const Sizes& sizes = *static_cast<Sizes*>(kernel);
  Call call(context);
  const Nf4Weight weight = call.weight(0, sizes);
  const float* inp = static_cast<const float*>(call.input(4, 0));
  const int64_t M = inp && sizes.K > 0 ? call.bytes(4) / 4 / sizes.K : 0;
  if (inp && call.bytes(4) != M * sizes.K * 4) call.fail("the input is no matrix of rows of K");
  float* out = call.output(M, sizes.N);
  if (out) nf4_product(out, inp, weight, M);
  call.report();
}

#ifdef TACOTUNE_TFJS_CUDA
void compute_decode_cuda(void* kernel, OpKernelContext* context) {
  const Sizes& sizes = *static_cast<Sizes*>(kernel);
  Call call(context);
  const Nf4Weight weight = call.weight(0, sizes);
  float* out = call.output(sizes.N, sizes.K);
  if (out)
    if (const char* error = nf4_decode_cuda(out, weight)) call.fail(error);
  call.report();
}
#endif

bool is_registered(const char* op) {
  Buffer* list = GetAllOpList();
  const bool found = memmem(list->data, list->length, op, std::strlen(op)) != nullptr;
  DeleteBuffer(list);
  return found;
}

void register_op(const char* name, bool takes_rows, Status* status) {
  OpDefinitionBuilder* op = NewOpDefinitionBuilder(name);
  for (const char* input : {"codes: bool", "absmax_codes: bool", "absmax: float", "offset: float"}) OpDefinitionBuilderAddInput(op, input);
  if (takes_rows) OpDefinitionBuilderAddInput(op, "inp: float");
  OpDefinitionBuilderAddOutput(op, "out: float");
  for (const char* attribute : {"N: int", "K: int"}) OpDefinitionBuilderAddAttr(op, attribute);
  OpDefinitionBuilderSetShapeInferenceFunction(op, ShapeInferenceContextSetUnknownShape);
  RegisterOpDefinition(op, status);
}

void register_kernel(const char* op, const char* device, void (*compute)(void*, OpKernelContext*), Status* status) {
  if (GetCode(status) == OK) RegisterKernelBuilder(op, NewKernelBuilder(op, device, create, compute, destroy), status);
}

}  // namespace

std::string register_ops() {
  if (const char* missing = find_tensorflow()) return missing;
  if (is_registered(DECODE)) return "";  // by another copy of this addon, with the same meaning
  Status* status = NewStatus();
  register_op(DECODE, false, status);
  register_kernel(DECODE, "CPU", compute_decode, status);
#ifdef TACOTUNE_TFJS_CUDA
  register_kernel(DECODE, "GPU", compute_decode_cuda, status);
#endif
  if (GetCode(status) == OK) register_op(PRODUCT, true, status);
  register_kernel(PRODUCT, "CPU", compute_product, status);
  const std::string error = GetCode(status) == OK ? "" : Message(status);
  DeleteStatus(status);
  return error;
}

}  // namespace tacotune::tensorflow
