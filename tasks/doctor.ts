// SPDX-License-Identifier: Apache-2.0
// What this machine can compute with, and whether it computes rightly: the processor's instruction sets, the CUDA driver, the
// GPU and its compiled kernels, and a check of every op on the GPU against the scalar reference.
import { existsSync, readdirSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import {
  type CublasLt,
  findGpus,
  type GpuDescription,
  modulesFolder,
  type NativeGpu,
  native,
} from '../kernels/index.js';
import { resolvePlace } from './place.js';

export interface OpCheck {
  op: string;
  passed: number;
  failed: number;
  /** Largest error, in units of the root mean square of what is wanted. */
  error: number;
  troubles: string[];
}

export interface Diagnosis {
  node: string;
  processor: { name: string; cores: number; memoryBytes: number; availableBytes: number; instructionSets: string[] };
  /** What `auto` takes here, and why. */
  chosen: { device: string; deviceReason: string; compute: string; computeReason: string };
  gpus: GpuDescription[];
  /** Why no GPU can be used; undefined where one can. */
  missing?: string;
  /** Files of compiled kernels. */
  modules: string[];
  gpu?: {
    name: string;
    driverVersion: number;
    freeBytes: number;
    totalBytes: number;
    /** Where the GPU puts the elements of matrix fragments, beside where the kernels believe them. */
    probes: { name: string; compared: number; mismatches: number }[];
    checks: OpCheck[];
    cublasLt: CublasLt;
  };
  /** Nothing that is here is broken. */
  healthy: boolean;
}

export interface DoctorOptions {
  /** Check the ops on the GPU; default true. */
  checkOps?: boolean;
  /** Only ops whose names contain one of these. */
  ops?: readonly string[];
  onCheck?: (check: OpCheck) => void;
}

/** Looks at everything, and runs the kernels where there is a GPU to run them on. */
export function diagnose(options: DoctorOptions = {}): Diagnosis {
  const { gpus, gpu: usable, missing, broken } = findGpus();
  const folder = modulesFolder();
  const modules = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.fatbin')) : [];
  const gpu = usable && examined(usable, options);
  const processors = cpus();
  return {
    node: process.version,
    processor: {
      name: processors[0]?.model ?? 'unknown',
      cores: processors.length,
      memoryBytes: totalmem(),
      availableBytes: process.availableMemory(),
      instructionSets: native().instructionSets(),
    },
    chosen: resolvePlace({}),
    gpus,
    ...(missing !== undefined && { missing }),
    modules: modules.sort(),
    ...(gpu && { gpu }),
    healthy:
      broken !== true &&
      (gpu === undefined || gpu.cublasLt.library === '' || gpu.cublasLt.trouble === undefined) &&
      (gpu?.checks.every(({ failed }) => failed === 0) ?? true) &&
      (gpu?.probes.every(({ mismatches }) => mismatches === 0) ?? true),
  };
}

function examined(gpu: NativeGpu, { checkOps = true, ops, onCheck }: DoctorOptions): NonNullable<Diagnosis['gpu']> {
  const wanted = gpu.ops.filter((op) => ops === undefined || ops.some((word) => op.includes(word)));
  const checks = (checkOps ? wanted : []).map((op) => {
    const check = { op, ...gpu.checkOp(op) };
    onCheck?.(check);
    return check;
  });
  if (checkOps) checkCublasLt(gpu);
  const { name } = gpu.description;
  const [probes, cublasLt] = [gpu.probe(), gpu.cublasLt()];
  return { name, driverVersion: gpu.driverVersion, ...gpu.memory(), probes, checks, cublasLt };
}

/** Sends products of every size to cuBLASLt, where it is: the first of each shape is compared with our kernels'. */
function checkCublasLt(gpu: NativeGpu): void {
  if (gpu.cublasLt().trouble !== undefined) return;
  gpu.useCublasLt(1);
  for (const op of gpu.ops.filter((op) => op.startsWith('linear'))) gpu.checkOp(op);
  gpu.useCublasLt(0);
}
