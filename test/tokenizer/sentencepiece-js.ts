// SPDX-License-Identifier: Apache-2.0
// The independent oracle: sentencepiece-js (SentencePiece itself, compiled to WebAssembly). It installs handlers for uncaught
// errors in the whole process, which would blind the test runner, so it runs in a child; this file is that child's program too.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

interface Processor {
  load(path: string): Promise<void>;
  encodeIds(text: string): number[];
  decodeIds(ids: number[]): string;
}

interface Question {
  model: string;
  texts: string[];
}

export interface Answer {
  ids: number[];
  decoded: string;
}

/** What sentencepiece-js makes of each text with this `.model` file, and of the ids back again. */
export function askSentencepieceJs(model: string, texts: string[]): Answer[] {
  const question: Question = { model, texts };
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url)], {
    input: JSON.stringify(question),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (child.status !== 0) throw new Error(`sentencepiece-js failed: ${child.stderr}`);
  return JSON.parse(child.stdout) as Answer[];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { model, texts } = JSON.parse(readFileSync(0, 'utf8')) as Question;
  const { SentencePieceProcessor } = createRequire(import.meta.url)('sentencepiece-js') as {
    SentencePieceProcessor: new () => Processor;
  };
  const processor = new SentencePieceProcessor();
  await processor.load(model);
  const answers = texts.map((text): Answer => {
    const ids = processor.encodeIds(text);
    return { ids, decoded: processor.decodeIds(ids) };
  });
  process.stdout.write(JSON.stringify(answers));
}
