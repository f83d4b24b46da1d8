// SPDX-License-Identifier: Apache-2.0
// Text ↔ ids. Start with `loadTokenizer`; the contract is in tokenizer.ts. Knows no models, prompts or data sets.
export { loadTokenizer } from './load.js';
export type { DecodeOptions, EncodeOptions, Encoding, StreamDecoder, Tokenizer, TokenizerKind } from './tokenizer.js';
export { textOfBytes } from './utf8.js';
export { type ByteLevelVocabulary, readVocabulary, type Vocabulary } from './vocabulary.js';
