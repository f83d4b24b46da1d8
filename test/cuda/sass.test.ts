// SPDX-License-Identifier: Apache-2.0
// The reader of compiled kernels (scripts/sass.mjs) on two kernels whose code is known from their source: a loop of tensor
// products, and a copy with a wide and a narrow path. Both are compiled for each architecture that the fatbins have.
// Run: npm test -- cuda/sass
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as assert from 'uvu/assert';
import { projectRoot, skip, suite } from '../support/harness.js';

const test = suite('cuda: sass');

interface Instruction {
  name: string;
  unit: string;
  bytes: number;
}
interface Kernel {
  name: string;
  threads: number;
  instructions: Instruction[];
}
interface Reader {
  kernelsOf(bytes: Buffer, architecture: number): Kernel[];
  hotPath(instructions: Instruction[]): { loop: boolean; path: Instruction[] };
}

const source = `
extern "C" __global__ void __launch_bounds__(64) products_kernel(float4* out, const uint4* inp, int turns) {
  float d[4] = {0, 0, 0, 0};
#pragma unroll 1
  for (int turn = 0; turn < turns; turn++) {
    const uint4 a = inp[turn * 64 + threadIdx.x];
#pragma unroll
    for (int k = 0; k < 6; k++)
      asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%4,%5}, {%0,%1,%2,%3};"
                   : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w));
  }
  out[threadIdx.x] = make_float4(d[0], d[1], d[2], d[3]);
}
extern "C" __global__ void __launch_bounds__(96) copy_kernel(float* out, const float* inp, int n) {
  const int i = (blockIdx.x * 96 + threadIdx.x) * 4;
  if (i + 4 > n) return;
  if (((reinterpret_cast<size_t>(out) | reinterpret_cast<size_t>(inp)) & 15) == 0) {
    *reinterpret_cast<float4*>(out + i) = *reinterpret_cast<const float4*>(inp + i);
  } else {
    for (int j = 0; j < 4; j++) out[i + j] = inp[i + j];
  }
}
`;

const count = (path: Instruction[], name: string, bytes: number) =>
  path.filter((i) => i.name === name && i.bytes === bytes).length;

test('the loop of products and the wide path of a copy are found on every architecture', async () => {
  const compiler = process.env['NVCC'] ?? 'nvcc';
  if (spawnSync(compiler, ['--version']).status !== 0) skip('no nvcc');
  const reader = (await import(pathToFileURL(join(projectRoot, 'scripts', 'sass.mjs')).href)) as Reader;
  const folder = mkdtempSync(join(tmpdir(), 'sass-'));
  try {
    const file = join(folder, 'known.cu');
    writeFileSync(file, source);
    for (const architecture of [80, 89, 90]) {
      const cubin = join(folder, `${architecture}.cubin`);
      const { status, stderr } = spawnSync(compiler, [`-arch=sm_${architecture}`, '-cubin', '-o', cubin, file]);
      assert.is(status, 0, String(stderr));
      const kernels = reader.kernelsOf(readFileSync(cubin), architecture);
      const find = (name: string) => kernels.find((kernel) => kernel.name === name)!;
      assert.equal(kernels.map((kernel) => kernel.name).sort(), ['copy_kernel', 'products_kernel']);
      for (const kernel of kernels) assert.is(kernel.instructions.filter((i) => i.unit === 'unknown').length, 0);

      const products = find('products_kernel');
      const hot = reader.hotPath(products.instructions);
      assert.is(products.threads, 64);
      assert.ok(hot.loop, 'the loop of products');
      assert.is(count(hot.path, 'HMMA', 0), 6);
      assert.is(count(hot.path, 'LDG', 16), 1);
      assert.is(count(hot.path, 'STG', 16), 0, 'the store follows the loop');

      const copy = find('copy_kernel');
      const pass = reader.hotPath(copy.instructions);
      assert.is(copy.threads, 96);
      assert.not(pass.loop);
      assert.is(count(copy.instructions, 'LDG', 4), 4, 'the narrow path exists');
      assert.is(count(pass.path, 'LDG', 16), 1);
      assert.is(count(pass.path, 'STG', 16), 1);
      assert.is(count(pass.path, 'LDG', 4), 0, 'and is not taken');
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
