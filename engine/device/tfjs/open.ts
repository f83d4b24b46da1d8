// SPDX-License-Identifier: Apache-2.0
// Opens the tfjs device. The rest of this folder is loaded here and not before, and no type of TensorFlow.js stands in a
// signature that others see: a program that is compiled against this package need not have it.
import type { Device } from '../device.js';
import type { TfjsDeviceOptions } from './options.js';

/**
 * A device over the TensorFlow.js that is found from one of `folders`; default: from here and from the working directory.
 * @throws UserError where none is found, it does not work, or another compute type than f32 is asked for
 */
export async function openTfjsDevice(options: TfjsDeviceOptions, folders?: readonly string[]): Promise<Device> {
  const { loadTensorFlow } = await import('./load.js');
  const { TfjsDevice } = await import('./device.js');
  return new TfjsDevice(await loadTensorFlow(folders), options);
}
