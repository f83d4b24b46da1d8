// SPDX-License-Identifier: Apache-2.0
// A SentencePiece vocabulary and its rules as plain data, whatever file they came from. Only what the encoders can carry out
// exactly is representable here; the readers refuse the rest by name.
import type { MergeList } from './merger.js';

/** SentencePiece's own numbering of piece types. */
export const PieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** The space as SentencePiece writes it: ▁, U+2581. */
export const spaceMark = 0x2581;

export interface PieceModel {
  /** Piece by id, all different, none empty. */
  pieces: readonly string[];
  types: Uint8Array;
  segmentation: UnigramRules | BytePairRules;
  /** Id of each byte piece; undefined without byte fallback. */
  byteIds: Int32Array | undefined;
  unknownId: number | undefined;
  /** What decoding an unknown piece gives. */
  unknownSurface: string;
  /** Whether neighbouring unknown characters make one unknown token. Matters only without byte fallback. */
  fuseUnknown: boolean;
  /** When ▁ is put before a text; 'first' is 'unless-space', and not again after a special token. */
  dummyPrefix: 'always' | 'unless-space' | 'first' | 'never';
  /** Runs of spaces become one, those at the ends none. */
  removeExtraWhitespaces: boolean;
  bosId: number | undefined;
  eosId: number | undefined;
  padId: number | undefined;
}

export interface UnigramRules {
  algorithm: 'unigram';
  /** Log probability by id. */
  scores: Float32Array;
}

export interface BytePairRules {
  algorithm: 'bpe';
  merges: MergeList;
  /** Symbol of each character that can take part in merges: a piece id, or from `pieces.length` on for one that is no piece. */
  symbolOf: ReadonlyMap<number, number>;
}
