// SPDX-License-Identifier: Apache-2.0
// Speed of the CUDA kernels as shares of what the card could do by its clocks, measured by events on the GPU: the cases of
// kernels/lab/harness, which does the same without Node. `npm run bench -- ops --device cuda [--only WORD,…] [--rounds N]
// [--cublaslt]`; the last sends large products to cuBLASLt.
import { CUBLASLT_LEAST, type CublasLt, openGpu } from '../kernels/index.js';
import { formatTable } from './measure.js';

export interface GpuOpResult {
  op: string;
  shape: string;
  ms: number;
  ofPeakFlops: number;
  ofPeakBytes: number;
}

export interface GpuOpResults {
  gpu: string;
  results: GpuOpResult[];
  cublasLt?: CublasLt;
}

export function measureGpuOps(only: readonly string[], rounds: number, cublasLt: boolean): GpuOpResults {
  const gpu = openGpu();
  gpu.useCublasLt(cublasLt ? CUBLASLT_LEAST : 0);
  const { name, computeCapability } = gpu.description;
  console.log(`${name}, compute capability ${computeCapability / 10}, driver for CUDA ${gpu.driverVersion / 1000}\n`);
  const results = gpu.ops
    .filter((op) => only.length === 0 || only.some((word) => op.includes(word)))
    .flatMap((op) => gpu.timeOp(op, rounds).map((time) => ({ op, ...time })));
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  console.log(
    formatTable([
      ['op', 'shape', 'ms', 'TFLOP/s', 'of peak', 'GB/s', 'of peak'],
      ...results.map(({ op, shape, ms, flops, bytes, ofPeakFlops, ofPeakBytes }) => [
        op,
        shape,
        ms.toFixed(3),
        flops > 0 ? (flops / ms / 1e9).toFixed(1) : '',
        flops > 0 ? percent(ofPeakFlops) : '',
        (bytes / ms / 1e6).toFixed(0),
        percent(ofPeakBytes),
      ]),
    ]),
  );
  if (!cublasLt) return { gpu: name, results };
  const state = gpu.cublasLt();
  const { library, version, products, trouble } = state;
  console.log(`\ncuBLASLt: ${trouble ?? `${library}, version ${version}, computed ${products} of these products`}`);
  return { gpu: name, results, cublasLt: state };
}
