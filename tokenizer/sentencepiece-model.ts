// SPDX-License-Identifier: Apache-2.0
// Reads SentencePiece's `.model` files (message ModelProto of sentencepiece_model.proto) into a PieceModel. Knows the file's
// fields and their defaults; how text is encoded is the encoders' business. Whatever SentencePiece itself would refuse, and
// whatever our encoders would not do exactly as it does, is refused here by name.
import { UserError } from '../errors.js';
import { type BytePairRules, type PieceModel, PieceType } from './piece-model.js';
import { type Field, fieldsOf } from './protobuf.js';

// Far above real models (some hundred bytes, 256 thousand pieces, 20 million): they bound what loading takes.
const maxPieceBytes = 1024;
const maxPieces = 1 << 20;
/** Sum over the pieces of length squared: what finding the merges costs. */
const maxSquaredLengths = 1 << 27;

interface RawModel {
  pieces: string[];
  scores: number[];
  types: number[];
  trainer: Map<number, Field['value']>;
  normalizer: Map<number, Field['value']>;
  denormalizer: Map<number, Field['value']>;
}

/**
 * `where` names the file; `declaredSpecial` are pieces that the files beside it call special, so that text must not yield them.
 * @throws UserError where the bytes are no SentencePiece model, or one with unsupported rules.
 */
export function readSentencePieceModel(
  bytes: Uint8Array,
  where: string,
  declaredSpecial: ReadonlySet<string> = new Set(),
): PieceModel {
  const raw = readFields(bytes, where);
  for (const [id, piece] of raw.pieces.entries()) {
    const inText = raw.types[id] === PieceType.normal || raw.types[id] === PieceType.userDefined;
    if (inText && declaredSpecial.has(piece)) raw.types[id] = PieceType.control;
  }
  const refuse = (expected: string, found: string, remedy?: string): never => {
    throw new UserError({ expected, found, where, ...(remedy ? { remedy } : {}) });
  };
  const squaredLengths = raw.pieces.reduce((sum, piece) => sum + piece.length ** 2, 0);
  if (squaredLengths > maxSquaredLengths)
    refuse('pieces of ordinary length', `a sum of squared lengths of ${squaredLengths}`);
  if (raw.pieces.length === 0) refuse('a SentencePiece model with pieces', 'none');
  // It comes after the pieces, so a file cut between two of them lacks it.
  if (raw.trainer.size === 0) refuse('a trainer_spec', 'none', 'The file may be truncated; fetch it again.');

  const setting = (spec: Map<number, Field['value']>, field: number, otherwise: number): number => {
    const value = spec.get(field) ?? otherwise;
    return typeof value === 'number' ? value : refuse(`a number in field ${field}`, 'bytes');
  };
  const text = (spec: Map<number, Field['value']>, field: number, otherwise: string): string => {
    const value = spec.get(field);
    return value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : otherwise;
  };

  const modelType = setting(raw.trainer, 3, 1);
  if (modelType !== 1 && modelType !== 2) {
    refuse('a model of type unigram or bpe', ['', '', '', 'word', 'char'][modelType] || `type ${modelType}`);
  }
  for (const spec of [raw.normalizer, raw.denormalizer]) {
    const charsmap = spec.get(2);
    if (charsmap instanceof Uint8Array && charsmap.length > 0) {
      refuse(
        'the identity normalizer',
        `'${text(spec, 1, 'unnamed')}', which rewrites characters`,
        'LLaMA models use identity; train such a model with --normalization_rule_name=identity.',
      );
    }
  }
  if (setting(raw.trainer, 24, 0)) refuse('whitespace as prefix', 'treat_whitespace_as_suffix');
  if (!setting(raw.normalizer, 5, 1)) refuse('escape_whitespaces', 'escape_whitespaces switched off');

  const removeExtraWhitespaces = setting(raw.normalizer, 4, 1) !== 0;
  const spaced = raw.pieces.findIndex((piece, id) => raw.types[id] === PieceType.userDefined && piece.includes(' '));
  if (removeExtraWhitespaces && spaced >= 0) {
    refuse('no user-defined piece with a space where extra whitespace is removed', `'${raw.pieces[spaced]}'`);
  }
  const byteFallback = setting(raw.trainer, 35, 0) !== 0;
  const { idOf, unknownId, byteIds } = index(raw, byteFallback, refuse);
  const control = (field: number, name: string): number | undefined => {
    const id = idOf.get(text(raw.trainer, field, name) || name);
    return id !== undefined && raw.types[id] === PieceType.control ? id : undefined;
  };
  const types = Uint8Array.from(raw.types);
  return {
    pieces: raw.pieces,
    types,
    segmentation:
      modelType === 1
        ? { algorithm: 'unigram', scores: Float32Array.from(raw.scores) }
        : bytePairRules(raw.pieces, raw.scores, types, refuse),
    byteIds,
    unknownId,
    unknownSurface: text(raw.trainer, 44, ' \u2047 '),
    fuseUnknown: true,
    dummyPrefix: setting(raw.normalizer, 3, 1) ? 'always' : 'never',
    removeExtraWhitespaces,
    bosId: control(46, '<s>'),
    eosId: control(47, '</s>'),
    padId: control(48, '<pad>'),
  };
}

/** The score of each piece, by id. @throws UserError as readSentencePieceModel */
export function readSentencePieceScores(bytes: Uint8Array, where: string): Float32Array {
  return Float32Array.from(readFields(bytes, where).scores);
}

function readFields(bytes: Uint8Array, where: string): RawModel {
  const raw: RawModel = {
    pieces: [],
    scores: [],
    types: [],
    trainer: new Map(),
    normalizer: new Map(),
    denormalizer: new Map(),
  };
  const specs = new Map([
    [2, raw.trainer],
    [3, raw.normalizer],
    [5, raw.denormalizer],
  ]);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const { number, value, offset } of fieldsOf(bytes, where)) {
    if (!(value instanceof Uint8Array)) continue;
    const spec = specs.get(number);
    if (spec) for (const field of fieldsOf(value, where, offset)) spec.set(field.number, field.value);
    if (number !== 1) continue;
    const id = raw.pieces.length;
    const refuse = (expected: string, found: string): never => {
      throw new UserError({ expected, found, where: `${where}, piece ${id} at byte ${offset}` });
    };
    if (id === maxPieces) refuse(`at most ${maxPieces} pieces`, 'more');
    let piece = '';
    let score = 0;
    let type: number = PieceType.normal;
    for (const field of fieldsOf(value, where, offset)) {
      if (field.number === 1 && field.value instanceof Uint8Array) {
        if (field.value.length > maxPieceBytes)
          refuse(`pieces of at most ${maxPieceBytes} bytes`, `${field.value.length}`);
        piece = buffer.toString('utf8', field.offset, field.offset + field.value.length);
        // Bad bytes read as U+FFFD; so may be one that is really there.
        if (piece.includes('\ufffd') && !Buffer.from(piece).equals(field.value))
          refuse('a piece in UTF-8', 'other bytes');
      } else if (field.number === 2 && field.value instanceof Uint8Array && field.value.length === 4) {
        score = new DataView(field.value.buffer, field.value.byteOffset).getFloat32(0, true);
      } else if (field.number === 3 && typeof field.value === 'number') {
        type = field.value;
      }
    }
    if (piece === '') refuse('a piece', 'an empty string');
    if (!Number.isFinite(score)) refuse(`a finite score for '${piece}'`, String(score));
    if (type < 1 || type > 6) refuse(`a type from 1 to 6 for '${piece}'`, String(type));
    raw.pieces.push(piece);
    raw.scores.push(score);
    raw.types.push(type);
  }
  return raw;
}

/** Ids by piece, and the checks that SentencePiece makes when it loads a model. */
function index(raw: RawModel, byteFallback: boolean, refuse: (expected: string, found: string) => never) {
  const idOf = new Map<string, number>();
  const byteIds = new Int32Array(256).fill(-1);
  let unknownId: number | undefined;
  for (const [id, piece] of raw.pieces.entries()) {
    const type = raw.types[id];
    if (idOf.has(piece)) refuse('pieces that are all different', `'${piece}' as ${idOf.get(piece)} and ${id}`);
    idOf.set(piece, id);
    if (type === PieceType.unknown) {
      if (unknownId !== undefined) refuse('one piece of type unknown', `'${raw.pieces[unknownId]}' and '${piece}'`);
      unknownId = id;
    }
    if (type === PieceType.byte) {
      if (!byteFallback) refuse('byte pieces only with byte_fallback', `'${piece}' without`);
      if (!/^<0x[0-9A-F]{2}>$/.test(piece)) refuse('byte pieces named <0x00> to <0xFF>', `'${piece}'`);
      byteIds[Number.parseInt(piece.slice(3, 5), 16)] = id;
    }
  }
  if (unknownId === undefined) refuse('a piece of type unknown', 'none');
  if (byteFallback && byteIds.includes(-1)) refuse('256 byte pieces', `${byteIds.filter((id) => id >= 0).length}`);
  return { idOf, unknownId, byteIds: byteFallback ? byteIds : undefined };
}

/**
 * SentencePiece merges two neighbours when the joined string is a piece, best score first. The same as a list of merges: each
 * piece, cut at each place where both sides are pieces or single characters, at the rank of its score.
 */
function bytePairRules(
  pieces: readonly string[],
  scores: readonly number[],
  types: Uint8Array,
  refuse: (expected: string, found: string) => never,
): BytePairRules {
  const idOf = new Map<string, number>(); // what merging can reach
  for (const [id, piece] of pieces.entries()) {
    const type = types[id];
    // SentencePiece splits an unused piece again by the merges that made it, which depends on the whole text.
    if (type === PieceType.unused) refuse('no unused pieces in a bpe model', `'${piece}'`);
    if (type === PieceType.normal || type === PieceType.userDefined) idOf.set(piece, id);
  }
  const symbolOf = new Map<number, number>();
  let symbols = pieces.length;
  const symbol = (part: string): number | undefined => {
    if (!isOneCharacter(part)) return idOf.get(part);
    const codePoint = part.codePointAt(0)!;
    const known = symbolOf.get(codePoint);
    if (known !== undefined) return known;
    const made = idOf.get(part) ?? symbols++; // made up where the character is no piece
    symbolOf.set(codePoint, made);
    return made;
  };
  // User-defined pieces are cut out of the text beforehand and take no part in merges.
  const takesPart = (id: number | undefined): id is number => id !== undefined && types[id] !== PieceType.userDefined;

  const merges: number[] = [];
  let rank = 0; // of the best score first; equal scores share a rank
  let rankScore = Number.POSITIVE_INFINITY;
  for (const [piece, id] of [...idOf].sort(([, a], [, b]) => scores[b]! - scores[a]!)) {
    if (scores[id]! < rankScore) rank++;
    rankScore = scores[id]!;
    symbol(piece);
    for (let cut = isSurrogate(piece, 0) ? 2 : 1; cut < piece.length; cut += isSurrogate(piece, cut) ? 2 : 1) {
      const left = symbol(piece.slice(0, cut));
      if (!takesPart(left)) continue;
      const right = symbol(piece.slice(cut));
      if (takesPart(right)) merges.push(left, right, rank, id);
    }
  }
  return { algorithm: 'bpe', merges, symbolOf };
}

function isSurrogate(text: string, index: number): boolean {
  return (text.charCodeAt(index) & 0xf800) === 0xd800;
}

function isOneCharacter(text: string): boolean {
  return text.length === (isSurrogate(text, 0) ? 2 : 1);
}
