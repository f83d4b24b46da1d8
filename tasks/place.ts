// SPDX-License-Identifier: Apache-2.0
// Where a run computes and with which numbers: what was asked for, what this machine has, and the reason, in words, of every
// choice that was left to us.
import {
  type Compute,
  CpuDevice,
  CudaDevice,
  type Device,
  findTensorFlow,
  OutOfGpuMemory,
  openTfjsDevice,
  preferredCompute,
} from '../engine/index.js';
import { UserError } from '../errors.js';
import { findGpus, native } from '../kernels/index.js';

/** Bytes as people read them: 21.5 GiB. */
export const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

export type DeviceName = 'cpu' | 'cuda' | 'tfjs';

/** What may be asked for. */
export interface PlaceRequest {
  device?: DeviceName | 'auto' | undefined;
  compute?: Compute | 'auto' | undefined;
  /** Threads of the CPU's kernels; 0 or nothing: one per core. */
  threads?: number | undefined;
}

export interface Place {
  device: DeviceName;
  /** Why this device, and what it is. */
  deviceReason: string;
  compute: Compute;
  /** Why this compute type. */
  computeReason: string;
}

/** @throws UserError when a GPU or TensorFlow.js is asked for and none can be used */
export function resolvePlace({ device = 'auto', compute = 'auto' }: PlaceRequest): Place {
  const where = resolveDevice(device);
  if (compute !== 'auto') return { ...where, compute, computeReason: 'asked for' };
  if (where.device === 'tfjs') return { ...where, compute: 'f32', computeReason: 'TensorFlow.js has no other' };
  if (where.device === 'cuda') return { ...where, compute: 'bf16', computeReason: 'tensor cores multiply bf16' };
  const { compute: preferred, reason } = preferredCompute();
  return { ...where, compute: preferred, computeReason: reason };
}

function resolveDevice(wanted: DeviceName | 'auto'): Pick<Place, 'device' | 'deviceReason'> {
  if (wanted === 'cpu') return { device: 'cpu', deviceReason: 'asked for' };
  if (wanted === 'tfjs') {
    const { packageName, version, backend } = findTensorFlow();
    return { device: 'tfjs', deviceReason: `${packageName} ${version}, backend ${backend}` };
  }
  const { gpus, missing } = findGpus();
  if (missing === undefined) {
    const { name, memoryBytes } = gpus[0]!;
    return { device: 'cuda', deviceReason: `${name}, ${gib(memoryBytes)}` };
  }
  if (wanted === 'auto') return { device: 'cpu', deviceReason: missing };
  throw new UserError({
    expected: 'a GPU, for device: cuda',
    found: missing,
    remedy: "compute on the CPU ('device: cpu'); 'tacotune doctor' says what this machine has",
  });
}

export interface DeviceSettings {
  threads?: number | undefined;
  /** On a GPU, optimizer states live in memory that the driver moves between host and GPU. */
  pagedOptimizer?: boolean | undefined;
  /** On a GPU, large products go to cuBLASLt where it is found. */
  cublasLt?: boolean | undefined;
}

export async function makeDevice(
  { device, compute }: Place,
  { threads, pagedOptimizer, cublasLt }: DeviceSettings = {},
): Promise<Device> {
  if (threads) native().setThreads(threads);
  if (device === 'tfjs') return openTfjsDevice({ compute });
  return device === 'cuda'
    ? new CudaDevice({ compute, pagedOptimizer: pagedOptimizer ?? false, cublasLt: cublasLt ?? false })
    : new CpuDevice({ compute });
}

/** What the kernels are, for reports: an instruction set and threads, a GPU, or a package. */
export function kernelsOf({ device, deviceReason }: Place, made?: Device): string {
  const library = made && cublasLtOf(made).version;
  if (library !== undefined) return `${deviceReason}; cuBLASLt ${library} for large products`;
  return device !== 'cpu' ? deviceReason : `${native().instructionSet()}, ${native().threads()} threads`;
}

/** 130101 as 13.1.1. */
export const cublasLtVersion = (version: number): string =>
  [Math.floor(version / 10000), Math.floor(version / 100) % 100, version % 100].join('.');

/** cuBLASLt where the device was asked to use it: its version, or why it is not used (any more). */
export function cublasLtOf(device: Device): { version?: string; trouble?: string } {
  if (!(device instanceof CudaDevice && device.cublasLt)) return {};
  const { version, trouble } = device.gpu.cublasLt();
  return trouble === undefined ? { version: cublasLtVersion(version) } : { trouble };
}

/** An error that the GPU's memory did not suffice, with what was held and what was planned; any other as it is. */
export function memoryExplained(error: unknown, planned: Partial<Record<string, number>>): unknown {
  if (!(error instanceof OutOfGpuMemory)) return error;
  const list = (memory: Iterable<[string, number | undefined]>) =>
    [...memory].map(([kind, bytes]) => `${kind} ${gib(bytes ?? 0)}`).join(', ');
  return new UserError({
    expected: `room on the GPU for ${gib(error.wantedBytes)} of ${error.kind} (planned: ${list(Object.entries(planned))})`,
    found: `${gib(error.freeBytes)} of ${gib(error.totalBytes)} free (held: ${list(error.held)})`,
    remedy: "end other programs on the GPU, or let 'tacotune plan --device cuda' say what would fit",
    cause: error,
  });
}
