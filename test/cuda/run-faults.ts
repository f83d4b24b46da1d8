// SPDX-License-Identifier: Apache-2.0
// Child of faults.test.ts: wrong calls and bad indices on the GPU that the driver drives. Prints what each became, as JSON.
import { type GpuSpan, openGpu } from '../../kernels/index.js';

const gpu = openGpu();

function place(values: Float32Array | Int32Array | Uint8Array): GpuSpan {
  const address = gpu.allocate(values.byteLength, false);
  gpu.upload(address, values);
  return { address, count: values.length, elementBytes: values.BYTES_PER_ELEMENT };
}
const f32 = (n: number) => place(new Float32Array(n).fill(1));
const i32 = (...values: number[]) => place(Int32Array.from(values));

async function said(work: () => unknown): Promise<string> {
  try {
    await work();
    await gpu.download(probe.address, 4); // errors of what was enqueued come with the next download
    return 'nothing';
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
}
const probe = f32(1);

const table = f32(2 * 4);
const freed = f32(8);
gpu.release(freed.address);
const whole = f32(8);

const results: Record<string, string> = {
  id: await said(() => gpu.embeddingForward(f32(3 * 4), i32(0, 7, 1), f32(5 * 4), 0, 3, 5, 4)),
  position: await said(() => gpu.ropeForward(f32(2 * 4), table, i32(1, -3), 2, 1, 4, 2)),
  label: await said(() => gpu.crossEntropyForward(f32(2), f32(2 * 4), f32(5 * 4), 0, i32(-100, 5), 2, 5, 4, 0)),
  start: await said(() => gpu.attentionForward(f32(8), f32(2), f32(8), f32(8), f32(8), i32(0, 2), 1, 2, 2, 1, 1, 4, 0)),
  afterwards: await said(() => gpu.add(f32(8), f32(8), 8)),
  freed: await said(() => gpu.add(whole, freed, 8)),
  foreign: await said(() => gpu.add(whole, { address: 4096, count: 8, elementBytes: 4 }, 8)),
  tooLong: await said(() => gpu.add({ ...whole, count: 9 }, f32(9), 9)),
  count: await said(() => gpu.add(whole, f32(7), 8)),
  notMemory: await said(() => gpu.add(whole, 'x' as unknown as GpuSpan, 8)),
  wrongElements: await said(() => gpu.add(whole, { ...whole, elementBytes: 1 }, 8)),
  releasedTwice: await said(() => gpu.release(freed.address)),
  uploadTooLong: await said(() => gpu.upload(whole.address, new Float32Array(9))),
  downloadTooLong: await said(() => gpu.download(whole.address, 33)),
};
console.log(JSON.stringify(results));
