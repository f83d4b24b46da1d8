// SPDX-License-Identifier: Apache-2.0
// The benchmarks' entrance: `npm run bench -- NAME [options]`. Each benchmark is a file with a function `run`.
import { UserError } from '../errors.js';

const benchmarks: Record<string, { about: string; load(): Promise<{ run(args: string[]): void | Promise<void> }> }> = {
  data: { about: 'reading, importing and feeding training data', load: () => import('./data.js') },
  files: { about: 'converting, quantising and merging, beside cp', load: () => import('./files.js') },
  study: { about: 'the chain and the curriculum against the baseline', load: () => import('./study.js') },
  ops: { about: 'kernels against the ceilings of this machine', load: () => import('./ops.js') },
  step: { about: 'a whole training step, beside PEFT', load: () => import('./step.js') },
  tfjs: { about: 'the tfjs device on TensorFlow, beside cpu', load: () => import('./tfjs.js') },
  tokenizer: { about: 'tokenizing, beside sentencepiece-js', load: () => import('./tokenizer.js') },
};

async function main([name = '', ...args]: string[]): Promise<void> {
  const benchmark = benchmarks[name];
  if (!benchmark) {
    const list = Object.entries(benchmarks).map(([known, { about }]) => `${known} (${about})`);
    throw new UserError({ expected: `a benchmark: ${list.join(', ')}`, found: name || 'nothing', usage: true });
  }
  const { run } = await benchmark.load();
  await run(args);
}

try {
  await main(process.argv.slice(2));
} catch (caught) {
  let error = caught;
  if (caught instanceof TypeError && 'code' in caught && String(caught.code).startsWith('ERR_PARSE_ARGS')) {
    error = new UserError({
      expected: 'options of this benchmark (they open its file)',
      found: caught.message,
      usage: true,
    });
  }
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = error.exitCode;
}
