// SPDX-License-Identifier: Apache-2.0
// The device under test: the pure JavaScript backend of the development dependencies, so that it runs everywhere. The
// environment variable names a folder with other packages: TACOTUNE_TFJS=build/tfjs-node npm test -- tfjs/
import { resolve } from 'node:path';
import { TfjsDevice } from '../../engine/device/tfjs/device.js';
import { type LoadedTensorFlow, loadTensorFlow } from '../../engine/device/tfjs/load.js';
import { projectRoot } from '../support/harness.js';

export const FOLDER_VARIABLE = 'TACOTUNE_TFJS';

let loaded: Promise<LoadedTensorFlow> | undefined;

export function tensorFlow(): Promise<LoadedTensorFlow> {
  loaded ??= loadTensorFlow([resolve(process.env[FOLDER_VARIABLE] ?? projectRoot)]);
  return loaded;
}

export async function tfjsDevice(): Promise<TfjsDevice> {
  return new TfjsDevice(await tensorFlow(), { compute: 'f32' });
}
