// SPDX-License-Identifier: Apache-2.0
// Loads the addon that brings our 4-bit ops into TensorFlow (kernels/tfjs/), where it has been built, and names what it brings.
// TensorFlow must be in the process by then.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { packageRoot } from './binding.js';

/** Ops of TensorFlow that take a packed weight (codes, absmax codes, absmax, offset) and the attributes N and K. */
export const TFJS_OPS = { decode: 'TacotuneNf4Decode1', product: 'TacotuneNf4Product1' } as const;

interface TfjsAddon {
  registerOps(): void;
  hasCuda: boolean;
}

/**
 * Registers the ops in this process's TensorFlow; a further call does nothing. Returns whether the addon is there, and for
 * what. @throws UserError when it is there and does not work
 */
export function registerTfjsOps(): { built: boolean; hasCuda: boolean } {
  const path = join(packageRoot(), 'build', 'tfjs', 'tacotune_tfjs.node');
  if (!existsSync(path)) return { built: false, hasCuda: false };
  try {
    const addon = createRequire(import.meta.url)(path) as TfjsAddon;
    addon.registerOps();
    return { built: true, hasCuda: addon.hasCuda };
  } catch (cause) {
    throw new UserError({
      expected: "the 4-bit ops for TensorFlow, built by 'npm run build:tfjs'",
      found: (cause as Error).message,
      where: path,
      remedy:
        "build them again, or remove the file: without it the device decodes 4-bit weights by TensorFlow's own ops",
      cause,
    });
  }
}
