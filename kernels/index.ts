// SPDX-License-Identifier: Apache-2.0
// The entrance of kernels/: the native ops and their numbering, on the CPU and on GPUs.
export { type Bytes, INSTRUCTION_SET_VARIABLE, type Native, native } from './binding.js';
export {
  CUBLASLT_LEAST,
  type CublasLt,
  DRIVER_VARIABLE,
  findGpus,
  type GpuDescription,
  type GpuSpan,
  MODULES_VARIABLE,
  modulesFolder,
  type NativeGpu,
  type OpAgreement,
  type OpTime,
  openGpu,
} from './gpu.js';
export {
  attentionScratch,
  crossEntropyScratch,
  heldScratch,
  linearScratch,
  type Pattern,
  rmsnormScratch,
  type StoredAs,
} from './gpu-scratch.js';
export { COMPUTE_TYPE, type NativeOps, STORAGE_TYPE } from './native-ops.js';
export { ScratchPlan } from './scratch.js';
export { registerTfjsOps, TFJS_OPS } from './tfjs-ops.js';
