// SPDX-License-Identifier: Apache-2.0
// Reads Hugging Face's `tokenizer.json`: byte-level BPE (Llama 3) and SentencePiece-BPE conversions (LLaMA 1 and 2). Knows the
// file's structure only. The file describes a pipeline of steps; the two pipelines are recognised whole, and any step that the
// encoders would not carry out exactly is refused by name.
import { UserError } from '../errors.js';
import type { AddedToken } from './added-tokens.js';
import type { ByteLevelModel } from './byte-level.js';
import type { MergeList } from './merger.js';
import { type PieceModel, PieceType } from './piece-model.js';
import { byteLevelPattern, SplitPattern } from './split-pattern.js';

export interface TokenizerJson {
  model: ({ form: 'byte-level' } & ByteLevelModel) | ({ form: 'sentencepiece' } & PieceModel);
  added: AddedToken[];
  unknownId: number | undefined;
  /** Tokens that the file's post-processor puts before and after a text. */
  before: string[];
  after: string[];
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

/** Ids beyond this, or with wide gaps, would be a way to exhaust memory through arrays by id. */
const maxId = 1 << 22;

/** @throws UserError where the text is no `tokenizer.json` or one with unsupported steps; `where` names the file. */
export function readTokenizerJson(text: string, where: string): TokenizerJson {
  const refuse: Refuse = (expected, found) => {
    throw new UserError({ expected, found, where });
  };
  let root: Json;
  try {
    root = JSON.parse(text.replace(/^\ufeff/, '')) as Json;
  } catch (error) {
    return refuse('JSON', error instanceof Error ? error.message : String(error));
  }
  if (!isObject(root) || !isObject(root['model'])) return refuse("a tokenizer with a 'model'", describe(root));
  const model = root['model'];
  if (model['type'] !== 'BPE' && model['type'] !== undefined) refuse("model type 'BPE'", describe(model['type']));
  for (const key of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix']) {
    if (model[key]) refuse(`no '${key}' in the model`, describe(model[key]));
  }
  const pieces = readVocabulary(model['vocab'], refuse);
  const added = readAdded(root['added_tokens'] ?? [], refuse);
  const merges = readMerges(model['merges'], pieces, refuse);
  const unknownId = typeof model['unk_token'] === 'string' ? idsOf(pieces).get(model['unk_token']) : undefined;
  const read = model['byte_fallback'] === true ? sentencePieceModel : byteLevelModel;
  return {
    model: read(root, model, pieces, merges, added, unknownId, refuse, where),
    added,
    unknownId,
    ...template(root['post_processor']),
  };
}

type Refuse = (expected: string, found: string) => never;

function readVocabulary(vocabulary: Json | undefined, refuse: Refuse): (string | undefined)[] {
  if (!isObject(vocabulary)) return refuse("an object 'model.vocab'", describe(vocabulary));
  const pieces: (string | undefined)[] = [];
  for (const [piece, id] of Object.entries(vocabulary)) {
    if (!isId(id)) refuse(`an id from 0 to ${maxId} for '${piece}'`, describe(id));
    if (pieces[id as number] !== undefined)
      refuse('ids that are all different', `${id} for '${pieces[id as number]}' and '${piece}'`);
    pieces[id as number] = piece;
  }
  const count = Object.keys(vocabulary).length;
  if (count === 0) refuse("tokens in 'model.vocab'", 'none');
  if (pieces.length > 2 * count + 65536)
    refuse('ids without wide gaps', `${count} tokens with ids up to ${pieces.length - 1}`);
  return Array.from(pieces);
}

function readAdded(list: Json, refuse: Refuse): AddedToken[] {
  if (!Array.isArray(list)) return refuse("a list 'added_tokens'", describe(list));
  return list.map((token, index) => {
    if (!isObject(token) || typeof token['content'] !== 'string' || token['content'] === '' || !isId(token['id'])) {
      return refuse(`'content' and 'id' in added_tokens[${index}]`, describe(token));
    }
    const special = token['special'] === true;
    for (const key of ['single_word', 'lstrip', 'rstrip']) {
      // These change where a token is found in text, where special ones are not looked for.
      if (token[key] === true && !special) refuse(`added token '${token['content']}' without '${key}'`, 'it set');
    }
    return { id: token['id'], content: token['content'], special };
  });
}

/** Ranks are positions in the list. */
function readMerges(list: Json | undefined, pieces: readonly (string | undefined)[], refuse: Refuse): MergeList {
  if (!Array.isArray(list)) return refuse("a list 'model.merges'", describe(list));
  const idOf = idsOf(pieces);
  const merges: number[] = [];
  for (const [rank, merge] of list.entries()) {
    const sides = typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(sides) || sides.length !== 2 || typeof sides[0] !== 'string' || typeof sides[1] !== 'string') {
      return refuse(`two tokens in merges[${rank}]`, describe(merge));
    }
    const [left, right] = sides as [string, string];
    for (const piece of [left, right, left + right]) {
      if (!idOf.has(piece)) refuse(`merges of tokens in the vocabulary`, `'${piece}' in merges[${rank}]`);
    }
    merges.push(idOf.get(left)!, idOf.get(right)!, rank, idOf.get(left + right)!);
  }
  return merges;
}

function byteLevelModel(
  root: JsonObject,
  model: JsonObject,
  pieces: (string | undefined)[],
  merges: MergeList,
  added: readonly AddedToken[],
  _unknownId: number | undefined,
  refuse: Refuse,
  where: string,
): TokenizerJson['model'] {
  if (root['normalizer']) refuse('no normalizer before byte-level BPE', describe(root['normalizer']));
  const patterns: SplitPattern[] = [];
  let byteLevel = false;
  for (const step of steps(root['pre_tokenizer'], 'pretokenizers')) {
    if (byteLevel) refuse('ByteLevel as the last pre-tokenizer', describe(step));
    if (step['type'] === 'ByteLevel') {
      byteLevel = true;
      if (step['add_prefix_space'] !== false)
        refuse('ByteLevel with add_prefix_space false', describe(step['add_prefix_space']));
      if (step['use_regex'] !== false) patterns.push(new SplitPattern(byteLevelPattern, where));
    } else if (step['type'] === 'Split' && step['behavior'] === 'Isolated' && step['invert'] !== true) {
      const pattern = isObject(step['pattern']) ? step['pattern'] : {};
      if (typeof pattern['Regex'] === 'string') patterns.push(new SplitPattern(pattern['Regex'], where));
      else if (typeof pattern['String'] === 'string') patterns.push(SplitPattern.literal(pattern['String'], where));
      else refuse('a Regex or String to split at', describe(step));
    } else if (step['type'] === 'Digits') {
      patterns.push(new SplitPattern(step['individual_digits'] === true ? '\\p{N}' : '\\p{N}+', where));
    } else {
      refuse('pre-tokenizers Split (isolated), Digits and ByteLevel', describe(step));
    }
  }
  if (!byteLevel) refuse('a ByteLevel pre-tokenizer, or byte_fallback in the model', describe(root['pre_tokenizer']));
  const outside = new Set(added.map(({ content }) => content));
  const bytes = pieces.map((piece) => (piece === undefined ? undefined : bytesOfPiece(piece)));
  for (const [id, value] of bytes.entries()) {
    if (pieces[id] !== undefined && value === undefined && !outside.has(pieces[id])) {
      refuse('tokens written in the byte-level alphabet', `'${pieces[id]}' (id ${id})`);
    }
  }
  const single = new Set(bytes.filter((value) => value?.length === 1).map((value) => value![0]!));
  for (let byte = 0; byte < 256; byte++) {
    if (!single.has(byte)) refuse('a token for every single byte', `none for byte ${byte} ('${byteAlphabet[byte]}')`);
  }
  return { form: 'byte-level', pieces, bytes, merges, patterns, ignoreMerges: model['ignore_merges'] === true };
}

function sentencePieceModel(
  root: JsonObject,
  model: JsonObject,
  pieces: (string | undefined)[],
  merges: MergeList,
  added: readonly AddedToken[],
  unknownId: number | undefined,
  refuse: Refuse,
): TokenizerJson['model'] {
  if (model['ignore_merges'] === true) refuse('no ignore_merges with byte_fallback', 'it set');
  let dummyPrefix: PieceModel['dummyPrefix'] = 'never';
  let marksSpaces = false;
  for (const step of steps(root['normalizer'], 'normalizers')) {
    const pattern = isObject(step['pattern']) ? step['pattern']['String'] : undefined;
    if (step['type'] === 'Prepend' && step['prepend'] === '▁') dummyPrefix = 'always';
    else if (step['type'] === 'Replace' && pattern === ' ' && step['content'] === '▁') marksSpaces = true;
    else refuse("normalizers Prepend '▁' and Replace ' ' by '▁'", describe(step));
  }
  for (const step of steps(root['pre_tokenizer'], 'pretokenizers')) {
    if (step['type'] !== 'Metaspace' || step['replacement'] !== '▁' || step['split'] !== false) {
      refuse("no pre-tokenizer or Metaspace '▁' with split false", describe(step));
    }
    marksSpaces = true;
    const scheme = step['prepend_scheme'] ?? 'always';
    if (scheme === 'always') dummyPrefix = 'unless-space';
    else if (scheme === 'first') dummyPrefix = 'first';
    else if (scheme !== 'never') refuse("prepend_scheme 'always', 'first' or 'never'", describe(scheme));
  }
  if (!marksSpaces) refuse("spaces replaced by '▁'", describe(root['normalizer']));

  const special = new Set(added.filter((token) => token.special).map(({ id }) => id));
  const byteIds = new Int32Array(256).fill(-1);
  const types = new Uint8Array(pieces.length).fill(PieceType.normal);
  const symbolOf = new Map<number, number>();
  for (const [id, piece] of pieces.entries()) {
    const byte = piece === undefined ? null : /^<0x([0-9A-F]{2})>$/.exec(piece);
    if (byte) byteIds[Number.parseInt(byte[1]!, 16)] = id;
    if (byte) types[id] = PieceType.byte;
    else if (id === unknownId) types[id] = PieceType.unknown;
    else if (piece === undefined || special.has(id)) types[id] = PieceType.control;
    else if ([...piece].length === 1) symbolOf.set(piece.codePointAt(0)!, id);
  }
  if (byteIds.includes(-1)) refuse('256 byte tokens <0x00> to <0xFF>', `${byteIds.filter((id) => id >= 0).length}`);
  return {
    form: 'sentencepiece',
    pieces: pieces.map((piece) => piece ?? ''),
    types,
    segmentation: { algorithm: 'bpe', merges, symbolOf },
    byteIds,
    unknownId,
    unknownSurface: ' \u2047 ',
    // (Of broken bytes in output Hugging Face replaces a whole run; we replace the bad ones, as SentencePiece does.)
    fuseUnknown: model['fuse_unk'] === true,
    dummyPrefix,
    removeExtraWhitespaces: false,
    bosId: undefined,
    eosId: undefined,
    padId: undefined,
  };
}

/** The tokens around `$A` in a TemplateProcessing step. */
function template(postProcessor: Json | undefined): { before: string[]; after: string[] } {
  const before: string[] = [];
  const after: string[] = [];
  for (const step of steps(postProcessor, 'processors')) {
    if (step['type'] !== 'TemplateProcessing' || !Array.isArray(step['single'])) continue;
    let side = before;
    for (const item of step['single']) {
      if (!isObject(item)) continue;
      const token = item['SpecialToken'];
      if (item['Sequence'] !== undefined) side = after;
      else if (isObject(token ?? null) && typeof (token as JsonObject)['id'] === 'string')
        side.push((token as JsonObject)['id'] as string);
    }
  }
  return { before, after };
}

/** A step, or the steps of a Sequence. One nested too deep is left as it is, for the caller to refuse. */
function steps(value: Json | undefined, key: string, depth = 0): JsonObject[] {
  if (!isObject(value)) return [];
  const list = value[key];
  if (value['type'] !== 'Sequence' || !Array.isArray(list) || depth > 4) return [value];
  return list.flatMap((item) => steps(item, key, depth + 1));
}

/**
 * The byte-level alphabet: a printable character for every byte. Bytes that are printable in Latin-1 stand for themselves, the
 * others, in order, for U+0100 and on.
 */
const byteAlphabet: readonly string[] = (() => {
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(printable ? byte : 0x100 + others++);
  });
})();
const byteOfCharacter = new Map(byteAlphabet.map((character, byte) => [character, byte]));

function bytesOfPiece(piece: string): Uint8Array | undefined {
  const bytes = new Uint8Array(piece.length);
  for (let i = 0; i < piece.length; i++) {
    const byte = byteOfCharacter.get(piece[i]!);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}

function idsOf(pieces: readonly (string | undefined)[]): Map<string, number> {
  const idOf = new Map<string, number>();
  for (const [id, piece] of pieces.entries()) if (piece !== undefined) idOf.set(piece, id);
  return idOf;
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isId(value: Json | undefined): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= maxId;
}

/** A value for an error message, short and without what is nested in it. */
function describe(value: Json | undefined): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value, (key, inner) =>
    key !== '' && typeof inner === 'object' && inner !== null ? '…' : inner,
  );
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}
