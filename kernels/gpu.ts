// SPDX-License-Identifier: Apache-2.0
// GPUs through the addon: which there are, why one cannot be used, and the ops over GPU memory. The addon checks every
// address against what it gave out, so nothing here can crash the process.
import { join } from 'node:path';
import { UserError } from '../errors.js';
import { native, packageRoot } from './binding.js';
import type { NativeOps } from './native-ops.js';

/** An operand: `count` elements of GPU memory. */
export interface GpuSpan {
  readonly address: number;
  readonly count: number;
  readonly elementBytes: number;
}

export interface GpuDescription {
  name: string;
  /** 80, 89, 90 … for 8.0, 8.9, 9.0 … */
  computeCapability: number;
  multiprocessors: number;
  memoryBytes: number;
  /** Shared memory that a block may ask for. */
  sharedBytesPerBlock: number;
  clockKHz: number;
  memoryClockKHz: number;
  memoryBusBits: number;
}

/** How an op's cases came out. */
export interface OpAgreement {
  passed: number;
  failed: number;
  /** Largest error, in units of the root mean square of what is wanted. */
  error: number;
  /** The first failures: shape, and what was wrong. */
  troubles: string[];
}

export interface OpTime {
  shape: string;
  ms: number;
  flops: number;
  bytes: number;
  /** Shares of what the card could do, by its clocks. */
  ofPeakFlops: number;
  ofPeakBytes: number;
}

/** NVIDIA's library of matrix products, which a run may ask for. */
export interface CublasLt {
  /** Its name; empty where there is none. */
  library: string;
  /** 130100 for 13.1.0. */
  version: number;
  /** Computed by it so far in this process. */
  products: number;
  /** Why it is not used, in words. */
  trouble?: string;
}

/**
 * Where a run asks for cuBLASLt, products of at least so many rows, columns and depth go there (cuda/blas.h): of smaller ones,
 * decoding the weight first costs too much of what is gained.
 */
export const CUBLASLT_LEAST = 1024;

/** An opened GPU. Ops are enqueued and return at once; `download` waits without blocking the event loop. */
export interface NativeGpu extends NativeOps<GpuSpan, GpuSpan, GpuSpan, GpuSpan> {
  readonly description: GpuDescription;
  /** Of CUDA, times 1000: 13000 for 13.0. */
  readonly driverVersion: number;
  /** @param paged memory that the driver moves between host and GPU. Throws with code CUDA_OUT_OF_MEMORY */
  allocate(bytes: number, paged: boolean): number;
  release(address: number): void;
  /** The values may change when it returns. */
  upload(address: number, values: Float32Array | Uint16Array | Int32Array | Uint8Array): void;
  /** Rejects with the error of whatever op failed before it. */
  download(address: number, bytes: number): Promise<ArrayBuffer>;
  fillBytes(address: number, value: number, bytes: number): void;
  memory(): { freeBytes: number; totalBytes: number };
  /** Names of the ops, as in ops.h. */
  readonly ops: readonly string[];
  /** Runs an op's own cases on the GPU beside the scalar reference. */
  checkOp(op: string): OpAgreement;
  /** Median times of an op's cases of realistic size, by events on the GPU. */
  timeOp(op: string, repeats: number): OpTime[];
  /** Whether this GPU places the elements of matrix fragments as the kernels believe. */
  probe(): { name: string; compared: number; mismatches: number }[];
  /** From now on, in all of this process, products of at least this size go to cuBLASLt; 0: none, as in the beginning. */
  useCublasLt(least: number): void;
  /** Looks for the library at the first call. */
  cublasLt(): CublasLt;
  synchronize(): void;
  /** Gives scratch memory back. */
  trim(): void;
  scratchBytes(): number;
  /** What the op that was called last took of it. */
  scratchNeed(): number;
}

/** Names another library with the driver's symbols: the emulator, for tests. */
export const DRIVER_VARIABLE = 'TACOTUNE_CUDA_DRIVER';
/** Names another folder of compiled kernels. */
export const MODULES_VARIABLE = 'TACOTUNE_CUDA_MODULES';

/** Where `npm run build:cuda` puts the compiled kernels. */
export const modulesFolder = (): string => process.env[MODULES_VARIABLE] ?? join(packageRoot(), 'build', 'cuda');

export interface FoundGpus {
  gpus: GpuDescription[];
  /** The first of them, opened: that it can be used is known only then. */
  gpu?: NativeGpu;
  /** Why there is none that can be used, in words. */
  missing?: string;
  /** Nothing is missing, but something failed. */
  broken?: boolean;
}

/** The GPUs here, and whether one can be used: too old a card, or kernels that are not compiled, count as none. */
export function findGpus(): FoundGpus {
  let gpus: GpuDescription[] = [];
  try {
    gpus = native().listGpus();
    return { gpus, gpu: native().openGpu(0, modulesFolder()) };
  } catch (error) {
    const { message, code } = error as Error & { code?: string };
    return { gpus, missing: message, broken: code !== 'CUDA_UNAVAILABLE' };
  }
}

/** Opens a GPU. @throws UserError that says what is missing */
export function openGpu(ordinal = 0): NativeGpu {
  try {
    return native().openGpu(ordinal, modulesFolder());
  } catch (cause) {
    throw new UserError({
      expected: 'a GPU that CUDA kernels run on',
      found: (cause as Error).message,
      remedy: "compute on the CPU ('device: cpu'); 'tacotune doctor' says what this machine has",
      cause,
    });
  }
}
