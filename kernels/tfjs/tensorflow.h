// SPDX-License-Identifier: Apache-2.0
// The part of TensorFlow's C interface that registers an op, found at run time in the TensorFlow that the process has loaded
// already: one build of the addon serves every version of it, and building needs neither its headers nor its libraries. Names
// and signatures are those of tensorflow/c/{ops,kernels,tf_tensor,tf_status,c_api}.h, unchanged since TensorFlow 2.5.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tacotune::tensorflow {

// Opaque to us.
struct Status;
struct OpDefinitionBuilder;
struct ShapeInferenceContext;
struct KernelBuilder;
struct OpKernelConstruction;
struct OpKernelContext;
struct Tensor;

struct Buffer {
  const void* data;
  size_t length;
  void (*deallocator)(void*, size_t);
};

enum DataType : int { FLOAT = 1, BOOL = 10 };
enum Code : int { OK = 0, INVALID_ARGUMENT = 3 };

// name, result, parameters
#define TACOTUNE_TENSORFLOW_FUNCTIONS(F)                                                                            \
  F(NewStatus, Status*, ())                                                                                         \
  F(DeleteStatus, void, (Status*))                                                                                  \
  F(SetStatus, void, (Status*, Code, const char* message))                                                          \
  F(GetCode, Code, (const Status*))                                                                                 \
  F(Message, const char*, (const Status*))                                                                          \
  F(GetAllOpList, Buffer*, ())                                                                                      \
  F(DeleteBuffer, void, (Buffer*))                                                                                  \
  F(NewOpDefinitionBuilder, OpDefinitionBuilder*, (const char* name))                                               \
  F(OpDefinitionBuilderAddAttr, void, (OpDefinitionBuilder*, const char* specification))                            \
  F(OpDefinitionBuilderAddInput, void, (OpDefinitionBuilder*, const char* specification))                           \
  F(OpDefinitionBuilderAddOutput, void, (OpDefinitionBuilder*, const char* specification))                          \
  F(OpDefinitionBuilderSetShapeInferenceFunction, void, (OpDefinitionBuilder*, void (*)(ShapeInferenceContext*, Status*))) \
  F(ShapeInferenceContextSetUnknownShape, void, (ShapeInferenceContext*, Status*))                                  \
  F(RegisterOpDefinition, void, (OpDefinitionBuilder*, Status*))                                                    \
  F(NewKernelBuilder, KernelBuilder*,                                                                               \
    (const char* op, const char* device, void* (*create)(OpKernelConstruction*), void (*compute)(void*, OpKernelContext*), \
     void (*destroy)(void*)))                                                                                       \
  F(RegisterKernelBuilder, void, (const char* kernel, KernelBuilder*, Status*))                                     \
  F(OpKernelConstruction_GetAttrInt64, void, (OpKernelConstruction*, const char* name, int64_t*, Status*))          \
  F(OpKernelConstruction_Failure, void, (OpKernelConstruction*, Status*))                                           \
  F(OpKernelContext_Failure, void, (OpKernelContext*, Status*))                                                     \
  F(GetInput, void, (OpKernelContext*, int, Tensor**, Status*))                                                     \
  F(AllocateOutput, Tensor*, (OpKernelContext*, int, DataType, const int64_t* sizes, int rank, size_t bytes, Status*)) \
  F(TensorData, void*, (const Tensor*))                                                                             \
  F(TensorByteSize, size_t, (const Tensor*))                                                                        \
  F(DeleteTensor, void, (Tensor*))

#define TACOTUNE_TENSORFLOW_POINTER(name, result, parameters) extern result(*name) parameters;
TACOTUNE_TENSORFLOW_FUNCTIONS(TACOTUNE_TENSORFLOW_POINTER)
#undef TACOTUNE_TENSORFLOW_POINTER

/// Finds all of them. Returns nothing, or what is missing in words.
const char* find_tensorflow();

}  // namespace tacotune::tensorflow
