// SPDX-License-Identifier: Apache-2.0
// What every part of a pass shares: the device, the model's shape, the batch's layout, the rotary table, the dropout seeds.
import type { Device, F32, I32 } from '../device/index.js';
import type { LlamaConfig } from './config.js';
import type { SeedOf } from './projection.js';

export interface PassContext {
  readonly device: Device;
  readonly config: LlamaConfig;
  readonly B: number;
  readonly T: number;
  /** Rows B·T. */
  readonly M: number;
  readonly positions: I32; // (M)
  readonly starts: I32; // (B,T) first key each query sees
  readonly rotary: F32; // (P,2,D/2)
  readonly seedOf: SeedOf;
}
