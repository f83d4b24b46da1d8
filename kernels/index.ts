// SPDX-License-Identifier: Apache-2.0
// The entrance of kernels/: the native ops and their numbering.
export { type Bytes, COMPUTE_TYPE, INSTRUCTION_SET_VARIABLE, type Native, native, STORAGE_TYPE } from './binding.js';
export { ScratchPlan } from './scratch.js';
