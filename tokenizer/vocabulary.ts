// SPDX-License-Identifier: Apache-2.0
// The pieces of a vocabulary with what decides how text is cut into them, for writing them into files of other programs. Encoding
// text is not done with these: loadTokenizer is for that.
import { readFileSync, statSync } from 'node:fs';
import { UserError } from '../errors.js';
import { loadTokenizer } from './load.js';
import { PieceType } from './piece-model.js';
import { readSentencePieceModel, readSentencePieceScores } from './sentencepiece-model.js';
import { readTokenizerJson } from './tokenizer-json.js';

interface VocabularyCommon {
  /** By id; '' where an id is not used. */
  pieces: readonly string[];
  /** SentencePiece's numbers: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
  types: Uint8Array;
  bosId: number | undefined;
  eosId: number | undefined;
  padId: number | undefined;
  unknownId: number | undefined;
  /** Texts begin with bos. */
  addBos: boolean;
}

export interface SentencePieceVocabulary extends VocabularyCommon {
  form: 'sentencepiece';
  algorithm: 'bpe' | 'unigram';
  scores: Float32Array;
  /** A space is put before a text. */
  dummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
}

export interface ByteLevelVocabulary extends VocabularyCommon {
  form: 'byte-level';
  /** Two pieces with a space between them, first those that are merged first. */
  merges: readonly string[];
  /** Patterns that text is split with, one within the parts of the other. */
  splits: readonly string[];
  /** A word that is a piece is taken whole, whatever the merges say. */
  ignoreMerges: boolean;
}

export type Vocabulary = SentencePieceVocabulary | ByteLevelVocabulary;

const maxModelBytes = 32 << 20;

/** @param path of a `tokenizer.model` or `tokenizer.json`. @throws UserError where it is damaged, or of another kind */
export function readVocabulary(path: string): Vocabulary {
  return path.endsWith('.json') ? readByteLevel(path) : readSentencePiece(path);
}

function readSentencePiece(path: string): SentencePieceVocabulary {
  const size = statSync(path).size;
  if (size > maxModelBytes) {
    throw new UserError({
      expected: `a SentencePiece model of at most ${maxModelBytes >> 20} MiB`,
      found: `${size} bytes`,
      where: path,
    });
  }
  const bytes = readFileSync(path);
  const model = readSentencePieceModel(bytes, path);
  const { pieces, types, removeExtraWhitespaces, bosId, eosId, padId, unknownId } = model;
  return {
    form: 'sentencepiece',
    algorithm: model.segmentation.algorithm,
    pieces,
    scores: readSentencePieceScores(bytes, path),
    types,
    dummyPrefix: model.dummyPrefix !== 'never',
    removeExtraWhitespaces,
    bosId,
    eosId,
    padId,
    unknownId,
    addBos: bosId !== undefined,
  };
}

function readByteLevel(path: string): ByteLevelVocabulary {
  const tokenizer = loadTokenizer(path); // checks sizes, and reads the files beside it
  const { model, added } = readTokenizerJson(readFileSync(path, 'utf8'), path);
  if (model.form !== 'byte-level') {
    throw new UserError({
      expected: 'a byte-level tokenizer.json',
      found: 'a SentencePiece model in that form',
      where: path,
      remedy: 'give the tokenizer.model of the same model',
    });
  }
  const { bosId, eosId, padId, unknownId, addBos } = tokenizer;
  const known = Math.max(model.pieces.length, ...added.map(({ id }) => id + 1));
  const pieces = Array.from({ length: tokenizer.vocabularySize }, (_, id) => model.pieces[id] ?? '');
  const types = Uint8Array.from(pieces, (piece) => (piece === '' ? PieceType.unused : PieceType.normal));
  for (const { id, content, special } of added) {
    pieces[id] = content;
    types[id] = special ? PieceType.control : PieceType.userDefined;
  }
  for (let id = known; id < pieces.length; id++) {
    pieces[id] = tokenizer.piece(id); // named by the files beside it
    types[id] = PieceType.control;
  }
  if (unknownId !== undefined) types[unknownId] = PieceType.unknown;
  const merges: string[] = [];
  for (let i = 0; i < model.merges.length; i += 4)
    merges.push(`${pieces[model.merges[i]!]} ${pieces[model.merges[i + 1]!]}`);
  const splits = model.patterns.map(({ source }) => source);
  return {
    form: 'byte-level',
    pieces,
    types,
    merges,
    splits,
    ignoreMerges: model.ignoreMerges,
    bosId,
    eosId,
    padId,
    unknownId,
    addBos,
  };
}
