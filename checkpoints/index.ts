// SPDX-License-Identifier: Apache-2.0
// The entrance of checkpoints/: files of tensors and what surrounds them.
export { quantizationConfig, TORCH_TYPES } from './bitsandbytes.js';
export { type FileLayer, Replacement, systemFiles, writeFileAtomically } from './files.js';
export { openTensorFile } from './formats.js';
export { type GgmlType, ggmlTypeOf, packQ8_0 } from './ggml-types.js';
export { ggufName, isPermuted, ROPE_FACTORS, ropeFactors } from './gguf-model.js';
export { openGguf, permuteRows } from './gguf-tensors.js';
export { type GgufDeclaration, type GgufEntry, GgufWriter } from './gguf-writer.js';
export { hasWeights, openModel, writeModel } from './hugging-face.js';
export type { JsonObject } from './json.js';
export { type LlamaConfig, type RopeScaling, readLlamaConfig } from './llama-config.js';
export type { Model, ModelWeight, StoredTensor, StoredType } from './model.js';
export {
  compareStreams,
  MAX_SHARD_BYTES,
  type ModelWriteOptions,
  verifyModelDirectory,
  type WeightStream,
  type WrittenModel,
  writeModelDirectory,
} from './model-writer.js';
export {
  type AdapterTensorName,
  isLinearWeight,
  LINEAR_NAMES,
  type LinearName,
  type WeightName,
  weightPlaces,
} from './names.js';
export {
  ADAPTER_FILES,
  type Adapter,
  type AdapterFile,
  type AdapterPlace,
  type AdapterTensor,
  checkAdapterFits,
  copyAdapter,
  openAdapter,
  readAdapter,
  streamAdapter,
  verifyAdapterCopy,
  writeAdapter,
} from './peft.js';
export { findRunState, listRunStates, saveRunState } from './run-state.js';
export {
  openSafetensors,
  type SafetensorsFile,
  SafetensorsWriter,
  type TensorDeclaration,
  TORCH_METADATA,
  writeSafetensors,
} from './safetensors.js';
export { cast as castValues, castStream, copyStream, quantizeStream, streamSafetensors } from './streams.js';
export { isAlive } from './temporaries.js';
export type { ElementType, TensorData, TensorFile, TensorInfo, WeightType } from './tensor-file.js';
export { ELEMENT_TYPE } from './tensor-file.js';
