// SPDX-License-Identifier: Apache-2.0
// The entrance to the bundled text: what the sources expand to, and the files that hold it.
import { type Expansion, expand } from './expand.js';

export type { Expansion, Row, Show } from './expand.js';
export { type Language, languages } from './lexicon.js';
export { expand };

/** Path below samples/ to content, for every generated file. */
export function sampleFiles({ rows, heldOut, show, pretraining }: Expansion = expand()): Record<string, string> {
  const files: Record<string, string> = {};
  for (const [language, list] of Object.entries(rows)) files[`mits/${language}.json`] = jsonLines(list);
  files['mits/held-out.json'] = jsonLines(heldOut);
  files['mits/show.json'] = jsonLines(show);
  for (const [name, text] of Object.entries(pretraining))
    files[`text/pretraining/${name.replace('.txt', '.jsonl')}`] = textRecords(text);
  return files;
}

/** A record for each line, as the `text` of a recipe's source. */
function textRecords(text: string): string {
  return text.replace(/.+/g, (line) => JSON.stringify({ text: line }));
}

/** A JSON array with one entry on each line, so that a change of one row is a change of one line. */
function jsonLines(list: readonly unknown[]): string {
  return `[\n${list.map((entry) => JSON.stringify(entry)).join(',\n')}\n]\n`;
}
