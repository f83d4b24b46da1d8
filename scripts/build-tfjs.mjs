// SPDX-License-Identifier: Apache-2.0
// Builds the addon of the tfjs device, which brings our 4-bit ops into the TensorFlow that tfjs-node has loaded, whichever that
// is: it is found at run time, so neither it nor tfjs-node is needed here.
//
//     npm run build:tfjs          build/tfjs/tacotune_tfjs.node
//
// Needs g++ (CXX names another) on Linux, and Node's headers beside Node or in npm_config_nodedir. Where there is an nvcc (NVCC names another), the
// kernel for TensorFlow's GPU goes in as well, with CUDA's runtime inside.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { compile, inParallel, root, run } from './steps.mjs';

const compiler = process.env['CXX'] ?? 'g++';
const nvcc = process.env['NVCC'] ?? 'nvcc';
const remedy = 'Needed: g++ 10 or later.';
const folder = join(root, 'build', 'tfjs');
const product = join(folder, 'tacotune_tfjs.node');

const nodeHeaders = join(process.env['npm_config_nodedir'] ?? join(dirname(process.execPath), '..'), 'include', 'node');
if (process.platform !== 'linux' || !existsSync(join(nodeHeaders, 'node_api.h'))) {
  console.error(
    process.platform === 'linux'
      ? `build-tfjs: no node_api.h in ${nodeHeaders}: set npm_config_nodedir to where Node's headers are`
      : 'build-tfjs: this addon is for Linux; elsewhere the tfjs device decodes 4-bit weights by ops of TensorFlow.js',
  );
  process.exit(1);
}
const withCuda = spawnSync(nvcc, ['--version']).status === 0;

const common = ['-std=c++17', '-O3', '-I.', ...(withCuda ? ['-DTACOTUNE_TFJS_CUDA'] : [])];
const forHost = [
  ...common,
  ...['-fPIC', '-fvisibility=hidden', '-Wall', '-Wextra'],
  '-ffp-contract=off', // quant.h: each product and sum is rounded by itself
  ...['-isystem', nodeHeaders, '-isystem', createRequire(import.meta.url)('node-addon-api').include_dir],
  ...['-DNAPI_VERSION=8', '-DNODE_ADDON_API_CPP_EXCEPTIONS', '-c'],
];
const targets = [80, 89, 90].map((level) => `-gencode=arch=compute_${level},code=sm_${level}`);
const forGpu = [...common, ...targets, '-gencode=arch=compute_90,code=compute_90', '-Xcompiler', '-fPIC', '-c'];

const jobs = ['addon.cc', 'nf4.cc', 'ops.cc', 'tensorflow.cc'].map((file) => [compiler, forHost, file]);
if (withCuda) jobs.push([nvcc, forGpu, 'nf4_cuda.cu']);
const objects = jobs.map(([, , file]) => join(folder, `${file}.o`));
await inParallel(
  jobs.map(
    ([command, flags, file], i) =>
      () =>
        compile(command, flags, `kernels/tfjs/${file}`, objects[i], remedy),
  ),
);
if (withCuda) run(nvcc, ['-shared', '-cudart', 'static', '-ccbin', compiler, ...objects, '-o', product], remedy);
else run(compiler, ['-shared', ...objects, '-ldl', '-o', product], remedy);
console.error(`build-tfjs: ${product.slice(root.length + 1)}, ${withCuda ? 'for CPU and GPU' : 'for CPU'}`);
