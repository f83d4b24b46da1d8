// SPDX-License-Identifier: Apache-2.0
// The entrance of engine/device/tfjs/.
export { type FoundTensorFlow, findTensorFlow } from './find.js';
export { openTfjsDevice } from './open.js';
export type { TfjsDeviceOptions } from './options.js';
export { tfjsScratch } from './scratch.js';
