// SPDX-License-Identifier: Apache-2.0
// How a tfjs device is made.
import type { Compute } from '../device.js';

export interface TfjsDeviceOptions {
  compute: Compute;
  /** Decode 4-bit weights by our ops where they are built; default true. */
  customOps?: boolean;
}
