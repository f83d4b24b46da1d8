// SPDX-License-Identifier: Apache-2.0
// The entrance of engine/device/: the seam and its devices.
export { type Cost, costOf, MATRIX_OPS, OP_NAMES } from './costs.js';
export { CpuDevice, type CpuDeviceOptions, preferredCompute } from './cpu.js';
export { CudaDevice, type CudaDeviceOptions, OutOfGpuMemory } from './cuda.js';
export {
  type AdamwSettings,
  bytesOf,
  type Compute,
  type Dense,
  type Device,
  type DType,
  elementsOf,
  type F32,
  type I32,
  type LinearOptions,
  type LowRank,
  lastOf,
  type MemoryKind,
  type Nf4,
  type Nf4Values,
  type OpName,
  type Ops,
  rowsOf,
  STATE_BLOCK,
  type Tensor,
  type U8,
  type Values,
  type Weight,
  type WeightValues,
} from './device.js';
export { type OpTotal, type PlanCounters, type PlanDevice, planDevice, type ScratchRule, totalFlops } from './plan.js';
export { type OpCall, type ProfileDevice, profileDevice } from './profile.js';
export { cpuScratch, cudaScratch } from './scratch.js';
export {
  type FoundTensorFlow,
  findTensorFlow,
  openTfjsDevice,
  type TfjsDeviceOptions,
  tfjsScratch,
} from './tfjs/index.js';
