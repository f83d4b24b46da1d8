// SPDX-License-Identifier: Apache-2.0
// One row as training will see it: the composed text, and which parts of it count in the loss.
import {
  composer,
  type Example,
  type ExampleOptions,
  IGNORED,
  loadTemplate,
  type ReadRow,
  tokenize,
  UNUSABLE,
} from '../datasets/index.js';
import { UserError } from '../errors.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/index.js';
import { type RowsOptions, rowsOf } from './data-rows.js';

export interface PreviewOptions extends RowsOptions {
  example: Omit<ExampleOptions, 'template'> & { template: string };
  /** With it the parts are those of tokens, special ones in their own spelling; without it, of characters. */
  tokenizer?: string | undefined;
  /** Which row, from 1; or the id of one. The first that can be used where neither is told. */
  row?: number | undefined;
  id?: string | undefined;
}

export interface Preview {
  where: string;
  id: string;
  language: string;
  /** The text in stretches that count in the loss or do not. */
  parts: { text: string; counts: boolean }[];
  /** Of the example, where there is a tokenizer. */
  tokens?: number;
  targetTokens?: number;
}

/** @throws UserError where there is no such row, or it cannot be used */
export async function previewData(options: PreviewOptions): Promise<Preview> {
  const { row: number, id } = options;
  const compose = composer({ ...options.example, template: await loadTemplate(options.example.template) });
  const tokenizer = options.tokenizer === undefined ? undefined : loadTokenizer(options.tokenizer);
  let count = 0;
  let reason = 'no rows';
  for await (const { row } of rowsOf(options, () => {})) {
    count++;
    const asked = number === count || (id !== undefined && row.id === id);
    if (!asked && (number !== undefined || id !== undefined)) continue;
    const example = compose(row.item);
    if (typeof example !== 'string') return previewOf(row, example, tokenizer);
    reason = `a row that ${UNUSABLE[example]}`;
    if (asked)
      throw new UserError({ expected: `an example of row '${row.id}'`, found: reason, where: String(row.place) });
  }
  const which =
    number !== undefined ? `row ${number}` : id !== undefined ? `a row with the id '${id}'` : 'a row to show';
  throw new UserError({
    expected: which,
    found: number !== undefined || id !== undefined ? `none among ${count} rows` : `${count} rows, the last ${reason}`,
    where: options.sources.join(', '),
  });
}

function previewOf({ item, id, place }: ReadRow, example: Example, tokenizer: Tokenizer | undefined): Preview {
  const about = { where: String(place), id, language: item.language };
  if (!tokenizer) return { ...about, parts: joined(characterParts(example)) };
  const { ids, labels } = tokenize(example, tokenizer);
  const decoder = tokenizer.decoder({ specials: true });
  const parts = Array.from(ids, (token, t) => ({ text: decoder.push(token), counts: labels[t] !== IGNORED }));
  parts.push({ text: decoder.end(), counts: false });
  const targetTokens = labels.filter((label) => label !== IGNORED).length;
  return { ...about, parts: joined(parts), tokens: ids.length, targetTokens };
}

/** By characters. The model's own tokens have no spelling without a tokenizer. */
function characterParts({ segments, targets }: Example): Preview['parts'] {
  const parts: Preview['parts'] = [];
  let base = 0;
  for (const { text, special } of segments) {
    const counts = (at: number) => targets.some(({ start, end }) => start <= at && at < end);
    if (special) parts.push({ text: text === 'bos' || text === 'eos' ? `<${text}>` : text, counts: counts(base) });
    else {
      const inside = targets.flatMap(({ start, end }) => [start - base, end - base]);
      const bounds = [0, ...inside.filter((at) => at > 0 && at < text.length), text.length];
      for (let i = 1; i < bounds.length; i++) {
        parts.push({ text: text.slice(bounds[i - 1], bounds[i]), counts: counts(base + bounds[i - 1]!) });
      }
    }
    base += text.length;
  }
  return parts;
}

/** Neighbours of a kind as one. */
function joined(parts: Preview['parts']): Preview['parts'] {
  const all: Preview['parts'] = [];
  for (const part of parts) {
    const last = all.at(-1);
    if (part.text === '') continue;
    if (last && last.counts === part.counts) last.text += part.text;
    else all.push({ ...part });
  }
  return all;
}
