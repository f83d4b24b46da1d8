// SPDX-License-Identifier: Apache-2.0
// The device under test: the pure JavaScript backend of the development dependencies, so that it runs everywhere.
import { type LoadedTensorFlow, loadTensorFlow, TfjsDevice } from '../../engine/index.js';
import { projectRoot } from '../support/harness.js';

let loaded: Promise<LoadedTensorFlow> | undefined;

export function tensorFlow(): Promise<LoadedTensorFlow> {
  loaded ??= loadTensorFlow([projectRoot]);
  return loaded;
}

export async function tfjsDevice(): Promise<TfjsDevice> {
  return new TfjsDevice(await tensorFlow(), { compute: 'f32' });
}
