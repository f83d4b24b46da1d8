// SPDX-License-Identifier: Apache-2.0
// tacotune doctor: what this machine has, what `auto` would take, and whether the GPU's kernels compute rightly.
import { z } from 'zod';
import { cublasLtVersion, type Diagnosis, diagnose, type OpCheck } from '../tasks/index.js';
import { command, jsonOption } from './command.js';
import { bytes, table } from './format.js';

export default command({
  options: z.strictObject({
    checks: z.boolean().default(true).describe('run every op on the GPU and compare it with the reference'),
    ops: z.array(z.string()).optional().describe('check only ops whose names contain one of these'),
    json: jsonOption,
  }),
  examples: [
    ['doctor', 'what this machine computes with, and whether it computes rightly'],
    ['doctor --ops linear --ops attention', 'the same, for some ops of the GPU'],
  ],
  async run({ checks, ops, json }) {
    const diagnosis = diagnose({
      checkOps: checks,
      ...(ops && { ops }),
      onCheck: (check) => console.error(checkLine(check)),
    });
    console.log(json ? JSON.stringify(diagnosis, null, 2) : diagnosisText(diagnosis));
    if (!diagnosis.healthy) process.exitCode = 1;
  },
});

function checkLine({ op, passed, failed, error, troubles }: OpCheck): string {
  const verdict = failed === 0 ? 'agrees' : `${failed} of ${passed + failed} cases differ`;
  const line = `${op.padEnd(32)} ${verdict}, largest error ${error.toExponential(1)} of rms`;
  return [line, ...troubles.map((trouble) => `    ${trouble}`)].join('\n');
}

/** It is optional: missing, it is no fault. */
function cublasLtText({ cublasLt }: NonNullable<Diagnosis['gpu']>): string {
  const { library, version, products, trouble } = cublasLt;
  if (trouble !== undefined) return trouble;
  const agrees = products > 0 ? `, ${products} products agree with ours` : '';
  return `${library}, version ${cublasLtVersion(version)}${agrees} (recipes: cublasLt)`;
}

function diagnosisText(d: Diagnosis): string {
  const { processor, chosen, gpus, gpu, modules } = d;
  const facts = [
    ['node', d.node],
    ['processor', `${processor.name}, ${processor.cores} cores`],
    ['memory', `${bytes(processor.availableBytes)} available of ${bytes(processor.memoryBytes)}`],
    ['kernels', `${processor.instructionSets.join(', ')} (the first is used)`],
    ...gpus.map(({ name, computeCapability, multiprocessors, memoryBytes }, i) => [
      `GPU ${i}`,
      `${name}, compute capability ${(computeCapability / 10).toFixed(1)}, ${multiprocessors} multiprocessors, ${bytes(memoryBytes)}`,
    ]),
    ['GPU kernels', modules.length > 0 ? `${modules.length} modules` : 'none compiled'],
  ];
  if (gpu) {
    const failed = gpu.checks.filter((check) => check.failed > 0);
    facts.push(['driver', `CUDA ${Math.floor(gpu.driverVersion / 1000)}.${(gpu.driverVersion % 1000) / 10}`]);
    facts.push(['GPU memory', `${bytes(gpu.freeBytes)} free of ${bytes(gpu.totalBytes)}`]);
    facts.push([
      'GPU layouts',
      gpu.probes
        .map(
          ({ name, compared, mismatches }) =>
            `${name} ${mismatches === 0 ? 'as believed' : `differs in ${mismatches} of ${compared}`}`,
        )
        .join(', '),
    ]);
    facts.push(['cuBLASLt', cublasLtText(gpu)]);
    if (gpu.checks.length > 0) {
      facts.push([
        'GPU ops',
        failed.length === 0
          ? `all ${gpu.checks.length} agree with the reference`
          : `${failed.length} of ${gpu.checks.length} differ: ${failed.map(({ op }) => op).join(', ')}`,
      ]);
    }
  }
  if (d.missing !== undefined) facts.push(['no GPU', d.missing]);
  facts.push(['device: auto', `${chosen.device} (${chosen.deviceReason})`]);
  facts.push(['compute: auto', `${chosen.compute} (${chosen.computeReason})`]);
  return table(facts, '<<');
}
