// SPDX-License-Identifier: Apache-2.0
// The entrance of engine/device/tfjs/.
export { TfjsDevice, type TfjsDeviceOptions } from './device.js';
export { type FoundTensorFlow, findTensorFlow, type LoadedTensorFlow, loadTensorFlow } from './load.js';
export { tfjsScratch } from './scratch.js';
