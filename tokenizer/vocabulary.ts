// SPDX-License-Identifier: Apache-2.0
// The pieces of a SentencePiece model with scores and types, for writing them into files of other programs. Encoding text is
// not done with these: loadTokenizer is for that.
import { readFileSync, statSync } from 'node:fs';
import { UserError } from '../errors.js';
import { readSentencePieceModel, readSentencePieceScores } from './sentencepiece-model.js';

export interface Vocabulary {
  algorithm: 'bpe' | 'unigram';
  /** By id. */
  pieces: readonly string[];
  scores: Float32Array;
  /** SentencePiece's numbers: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
  types: Uint8Array;
  /** A space is put before a text. */
  dummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
  bosId: number | undefined;
  eosId: number | undefined;
  padId: number | undefined;
  unknownId: number | undefined;
}

const maxBytes = 32 << 20;

/** @param path of a `tokenizer.model`. @throws UserError where it is damaged, or no SentencePiece model */
export function readVocabulary(path: string): Vocabulary {
  const size = statSync(path).size;
  if (size > maxBytes) {
    throw new UserError({
      expected: `a SentencePiece model of at most ${maxBytes >> 20} MiB`,
      found: `${size} bytes`,
      where: path,
    });
  }
  const bytes = readFileSync(path);
  const model = readSentencePieceModel(bytes, path);
  const { pieces, types, removeExtraWhitespaces, bosId, eosId, padId, unknownId } = model;
  return {
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
  };
}
