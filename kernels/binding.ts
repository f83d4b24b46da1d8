// SPDX-License-Identifier: Apache-2.0
// The only file that loads the addon, and what the addon has besides ops (native-ops.ts). Run its tests: `npm test -- ops`.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../errors.js';
import type { GpuDescription, NativeGpu } from './gpu.js';
import type { NativeOps } from './native-ops.js';

/** Any typed array: raw bytes whose element type travels beside them. */
export type Bytes = Uint8Array | Uint16Array | Float32Array | Int32Array;

/** The native module. */
export interface Native extends NativeOps<Float32Array, Int32Array, Uint8Array, Bytes> {
  /** Implementations this processor can run, best first; the scalar `reference` is last. */
  instructionSets(): string[];
  selectInstructionSet(name: string): void;
  instructionSet(): string;
  /** Threads that ops run on, the caller's included. */
  threads(): number;
  setThreads(count: number): void;
  /** For benchmarks: does multiply-adds in registers on all threads and returns how many floating-point operations. */
  multiplyAddCeiling(compute: number, steps: number): number;
  /** Bytes of scratch memory that ops hold for themselves. */
  scratchBytes(): number;
  releaseScratch(): void;
  /** Zeroed memory outside the JavaScript heap; `release` gives it back at once and detaches the buffer. */
  allocate(bytes: number): ArrayBuffer;
  release(buffer: ArrayBuffer): void;
  /**
   * A part of an open file mapped into memory, copy-on-write: writing to it changes neither the file nor other readers. The
   * descriptor may be closed afterwards. Throws where the part is not within the file.
   */
  mapFile(file: number, offset: number, bytes: number): ArrayBuffer;
  /** Copies within the kernel. Returns the bytes copied, or minus the system's error number. */
  copyRange(from: number, fromOffset: number, to: number, toOffset: number, bytes: number): number;
  /** GPUs that the CUDA driver sees. Throws an Error with code CUDA_UNAVAILABLE that says what is missing. */
  listGpus(): GpuDescription[];
  /** Opens one GPU a process, with the compiled kernels of a folder. */
  openGpu(ordinal: number, modules: string): NativeGpu;
  /** Gives the memory behind a mapped file back; what was written to it is lost, and it is read from the file when next touched. */
  dropPages(buffer: ArrayBuffer): void;
}

/** Names a lower instruction set to use than the best one, for comparison and for tests. */
export const INSTRUCTION_SET_VARIABLE = 'TACOTUNE_INSTRUCTION_SET';

/** The folder of the package: this file runs from dist/kernels/, and what is built lies in build/ beside dist/. */
export const packageRoot = (): string => join(dirname(fileURLToPath(import.meta.url)), '..', '..');

let loaded: Native | undefined;

/** The native module, loaded at the first call. @throws UserError when it was not built or does not fit this Node. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  const require = createRequire(import.meta.url);
  const path = join(packageRoot(), 'build', 'Release', 'tacotune.node');
  if (!existsSync(path)) {
    throw new UserError({
      expected: 'the native addon',
      found: 'no such file',
      where: path,
      remedy: "run 'npm run build' (needs python3, make and g++)",
    });
  }
  let module: Native;
  try {
    module = require(path) as Native;
  } catch (cause) {
    throw new UserError({
      expected: `a native addon for Node ${process.version} on ${process.platform}-${process.arch}`,
      found: (cause as Error).message,
      where: path,
      remedy: "remove the folder 'build' and run 'npm run build'",
      cause,
    });
  }
  const wanted = process.env[INSTRUCTION_SET_VARIABLE];
  if (wanted) {
    if (!module.instructionSets().includes(wanted)) {
      throw new UserError({
        expected: `${INSTRUCTION_SET_VARIABLE} to be one of ${module.instructionSets().join(', ')} (what this processor has)`,
        found: `'${wanted}'`,
      });
    }
    module.selectInstructionSet(wanted);
  }
  return module;
}
