// SPDX-License-Identifier: Apache-2.0
// The entrance of datasets/: rows → examples → packed batches. Knows text and files of text; nothing of models.

export { STORE_WINDOW_BYTES } from './arrow-store.js';
export {
  EXAMPLE_MANIFEST,
  type ExampleManifest,
  exampleKey,
  openExamples,
  writeExamples,
} from './example-store.js';
export {
  composer,
  type Encoder,
  type Example,
  type ExampleOptions,
  type ExampleSource,
  encodePrompt,
  examples,
  fit,
  IGNORED,
  LOSS_PARTS,
  type LossParts,
  type Span,
  TASKS,
  type TaskName,
  TOO_LONG,
  type TokenExample,
  type TooLong,
  tokenize,
  UNUSABLE,
  type Unusable,
} from './examples.js';
export {
  batches,
  type Cursor,
  type Fed,
  type FeedCounts,
  type FeedOptions,
  PACKING_WINDOW,
} from './feed.js';
export {
  type FeedPlan,
  feedOf,
  openSource,
  type SourcePlan,
  type TokenizerCache,
  tokenizerCache,
} from './feed-plan.js';
export { dataFiles } from './files/data-files.js';
export type { OnBad, Place, RawRecord } from './files/place.js';
export { readRecords } from './files/records.js';
export { findLanguage, LANGUAGES, type Language, languageNamed } from './languages.js';
export {
  CHECKS,
  type Check,
  type ContextCut,
  type Finding,
  type LengthReport,
  Linter,
  type LintReport,
} from './lint/linter.js';
export { originalsOf } from './mits.js';
export { layOut, type PackedBatch, packRows } from './packing.js';
export { AHEAD_BYTES, prefetch } from './prefetch.js';
export { type RecordTable, tableOf } from './record-table.js';
export { type ReadRow, type RowFileOptions, readRowFiles, readRows } from './row-files.js';
export { type Original, openOriginal, openRows, type RowSourceOptions, readBeside } from './row-sources.js';
export {
  isRowStore,
  MANIFEST as ROW_MANIFEST,
  type RowManifest,
  RowStoreWriter,
  readRowManifest,
} from './row-store.js';
export { COLUMNS, type Column, type EnglishText, type Row, type RowShape } from './rows.js';
export { concatenate, type HeldOutBy, splitHeldOut, type WeightedSource, withReplay } from './source-views.js';
export {
  composeTaco,
  parseTaco,
  TACO_FORMATS,
  type TacoChain,
  type TacoFormat,
  type TacoParse,
  type TacoPart,
} from './taco.js';
export { loadTemplate, parseTemplate, type Question, TEMPLATES, type Template, templateNamed } from './templates.js';
export { openTexts } from './texts.js';
export { openTokenIds } from './token-ids.js';
