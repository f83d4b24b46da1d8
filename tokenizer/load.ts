// SPDX-License-Identifier: Apache-2.0
// From files to a Tokenizer: finds a tokenizer in a model directory, tells what kind of file it is by its content, and takes
// bos, eos and added tokens from the small JSON files beside it. Everything wrong with a file is a UserError before any text
// is encoded. Sizes are bounded first, so a wrong file of gigabytes is not read.
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UserError } from '../errors.js';
import type { AddedToken } from './added-tokens.js';
import { ByteLevelCodec } from './byte-level.js';
import { PieceType } from './piece-model.js';
import { SentencePieceCodec } from './sentencepiece.js';
import { readSentencePieceModel } from './sentencepiece-model.js';
import { TextTokenizer, type TokenizerParts } from './text-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';
import { readTokenizerJson } from './tokenizer-json.js';

/** The largest known: about 5 MB for a `.model` and 35 MB for a `tokenizer.json`. */
const maxModelBytes = 32 << 20;
const maxJsonBytes = 128 << 20;

/**
 * Loads the tokenizer of a model directory (`tokenizer.model`, else `tokenizer.json`) or of one such file.
 * @throws UserError where there is none, or where it is damaged or asks for something that is not carried out exactly.
 */
export function loadTokenizer(path: string): Tokenizer {
  const file = tokenizerFile(path);
  const stats = statSync(file);
  if (!stats.isFile()) throw new UserError({ expected: 'a regular file', found: 'a device or pipe', where: file });
  const head = headOf(file);
  const foreign = nameOfForeign(head);
  if (foreign) {
    const expected = 'a SentencePiece model or a tokenizer.json';
    throw new UserError({ expected, found: foreign.name, where: file, remedy: foreign.remedy });
  }
  const json = file.endsWith('.json') || /^\ufeff?\s*[[{]/.test(head.toString('utf8'));
  const limit = (json ? maxJsonBytes : maxModelBytes) / 2 ** 20;
  const size = Math.ceil(stats.size / 2 ** 20);
  if (size > limit)
    throw new UserError({ expected: `a tokenizer file of at most ${limit} MiB`, found: `${size} MiB`, where: file });
  const bytes = readFileSync(file);
  const settings = readSettings(dirname(file));
  const parts = json ? partsOfJson(bytes.toString('utf8'), file) : partsOfModel(bytes, file, settings);
  return new TextTokenizer(completed(parts, settings, bytes));
}

type Settings = Partial<Pick<TokenizerParts, 'addBos' | 'addEos'>> & {
  added: AddedToken[];
  tokens: { bos?: string; eos?: string; pad?: string };
};

type FileParts = Omit<TokenizerParts, 'fingerprint'>;

function partsOfModel(bytes: Uint8Array, file: string, settings: Settings): FileParts {
  const declared = settings.added.filter(({ special }) => special).map(({ content }) => content);
  const model = readSentencePieceModel(bytes, file, new Set(declared));
  const added: AddedToken[] = [];
  const named = new Map<string, number>();
  for (const [id, content] of model.pieces.entries()) {
    const type = model.types[id];
    if (type === PieceType.control) added.push({ id, content, special: true });
    else if (type === PieceType.unknown || type === PieceType.userDefined) named.set(content, id);
  }
  const { bosId, eosId, padId, unknownId } = model;
  // LLaMA's models are trained on texts that begin with bos; their files do not say so.
  return {
    codec: new SentencePieceCodec(model),
    added,
    named,
    bosId,
    eosId,
    padId,
    unknownId,
    addBos: true,
    addEos: false,
  };
}

function partsOfJson(text: string, file: string): FileParts {
  const { model, added, unknownId, before, after } = readTokenizerJson(text, file);
  const codec = model.form === 'byte-level' ? new ByteLevelCodec(model) : new SentencePieceCodec(model);
  const named = new Map(added.map(({ content, id }) => [content, id]));
  const id = (token: string | undefined): number | undefined => (token === undefined ? undefined : named.get(token));
  return {
    codec,
    added,
    named,
    bosId: id(before[0]),
    eosId: id(after[0]),
    padId: undefined,
    unknownId,
    addBos: before.length > 0,
    addEos: after.length > 0,
  };
}

/** Lets the files beside the tokenizer add tokens and name bos, eos and pad. */
function completed(parts: FileParts, settings: Settings, bytes: Uint8Array): TokenizerParts {
  const known = new Set(parts.added.map(({ id }) => id));
  const added = [
    ...parts.added,
    ...settings.added.filter(
      ({ id }) => !known.has(id) && id !== parts.unknownId && parts.codec.piece(id) === undefined,
    ),
  ];
  const idOf = new Map([...parts.named, ...added.map(({ content, id }) => [content, id] as const)]);
  const id = (token: string | undefined): number | undefined => (token === undefined ? undefined : idOf.get(token));
  const hash = createHash('sha256').update(bytes).update(JSON.stringify(added));
  return {
    ...parts,
    added,
    bosId: id(settings.tokens.bos) ?? parts.bosId,
    eosId: id(settings.tokens.eos) ?? parts.eosId,
    padId: id(settings.tokens.pad) ?? parts.padId,
    addBos: settings.addBos ?? parts.addBos,
    addEos: settings.addEos ?? parts.addEos,
    fingerprint: hash.digest('hex'),
  };
}

/** What tokenizer_config.json, special_tokens_map.json and added_tokens.json in `directory` say; the first named wins. */
function readSettings(directory: string): Settings {
  const settings: Settings = { added: [], tokens: {} };
  const config = readSmallJson(join(directory, 'tokenizer_config.json'));
  const map = readSmallJson(join(directory, 'special_tokens_map.json'));
  const content = (value: unknown): string | undefined => {
    const token = isRecord(value) ? value['content'] : value;
    return typeof token === 'string' && token !== '' ? token : undefined; // early LLaMA conversions have ""
  };
  for (const name of ['bos', 'eos', 'pad'] as const) {
    const token = content(config[`${name}_token`]) ?? content(map[`${name}_token`]);
    if (token !== undefined) settings.tokens[name] = token;
  }
  if (typeof config['add_bos_token'] === 'boolean') settings.addBos = config['add_bos_token'];
  if (typeof config['add_eos_token'] === 'boolean') settings.addEos = config['add_eos_token'];
  const tokens = new Map<number, AddedToken>();
  // added_tokens.json does not say which are special. Taken for special they cannot be forged by text.
  for (const [token, id] of Object.entries(readSmallJson(join(directory, 'added_tokens.json')))) {
    if (isTokenId(id)) tokens.set(id, { id, content: token, special: true });
  }
  const decoder = config['added_tokens_decoder'];
  for (const [key, value] of isRecord(decoder) ? Object.entries(decoder) : []) {
    const token = content(value);
    if (token !== undefined && isTokenId(Number(key))) {
      tokens.set(Number(key), {
        id: Number(key),
        content: token,
        special: !isRecord(value) || value['special'] !== false,
      });
    }
  }
  settings.added = [...tokens.values()].sort((a, b) => a.id - b.id);
  return settings;
}

function readSmallJson(file: string): Record<string, unknown> {
  if (!existsSync(file) || statSync(file).size > maxModelBytes) return {};
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UserError({
      expected: 'JSON',
      found: error instanceof Error ? error.message : String(error),
      where: file,
    });
  }
  return isRecord(value) ? value : {};
}

function tokenizerFile(path: string): string {
  if (!existsSync(path))
    throw new UserError({ expected: 'a model directory or a tokenizer file', found: 'nothing there', where: path });
  if (!statSync(path).isDirectory()) return path;
  for (const name of ['tokenizer.model', 'tokenizer.json']) if (existsSync(join(path, name))) return join(path, name);
  const names = readdirSync(path);
  const list = names.slice(0, 8).join(', ') + (names.length > 8 ? ', …' : '');
  throw new UserError({
    expected: 'tokenizer.model or tokenizer.json in the model directory',
    found: names.length > 0 ? list : 'an empty directory',
    where: path,
    remedy: 'Copy the file from where the model came from.',
  });
}

/** Files that are often found under a tokenizer's name. */
function nameOfForeign(head: Buffer): { name: string; remedy: string } | undefined {
  const text = head.toString('latin1');
  const again = 'Fetch the file again.';
  if (head.length === 0) return { name: 'an empty file', remedy: again };
  if (/^\s*<(!doctype|html|\?xml)/i.test(text))
    return { name: 'a web page', remedy: `${again} A page in its place often means that a login was needed.` };
  if (text.startsWith('version https://git-lfs'))
    return { name: 'a git-lfs pointer', remedy: "Run 'git lfs pull' in the model's repository." };
  if (text.startsWith('PK') || (head[0] === 0x80 && head[1]! <= 5))
    return {
      name: 'a pickle or zip archive (PyTorch weights?)',
      remedy: 'Give the tokenizer.model of the same model.',
    };
  if (text.startsWith('GGUF'))
    return { name: 'a GGUF file', remedy: 'Give the tokenizer.model of the original model.' };
  if (/^[A-Za-z0-9+/]+={0,2} \d+\r?\n/.test(text))
    return { name: 'a list of base64 tokens (tiktoken)', remedy: 'Use the tokenizer.json of the same model.' };
  return undefined;
}

function headOf(file: string): Buffer {
  const head = Buffer.alloc(256);
  const descriptor = openSync(file, 'r');
  try {
    return head.subarray(0, readSync(descriptor, head, 0, head.length, 0));
  } finally {
    closeSync(descriptor);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTokenId(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 1 << 22;
}
