// SPDX-License-Identifier: Apache-2.0
// The entrance of engine/: models and training over token ids and tensors. It sees neither text nor files.
export * from './device/index.js';
export * from './generation/index.js';
export * from './model/index.js';
export { normals, seedOf, uniformGenerator } from './random.js';
export * from './training/index.js';
