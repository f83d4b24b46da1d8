// SPDX-License-Identifier: Apache-2.0
// The entrance of tasks/: what a person can ask for, as typed functions. Each opens, checks and closes what it needs.

export { type Conversion, type ConvertOptions, convert } from './convert.js';
export { type ImportOptions, type ImportReport, importData } from './data-import.js';
export { type Lint, type LintOptions, lintData } from './data-lint.js';
export { type Preview, type PreviewOptions, previewData } from './data-preview.js';
export type { RowsOptions } from './data-rows.js';
export { dataStats, type SourceStats, type StatsOptions } from './data-stats.js';
export { type DemoAnswer, type DemoEvent, demo } from './demo.js';
export { type Diagnosis, type DoctorOptions, diagnose, type OpCheck } from './doctor.js';
export { type CachedExamples, type CacheOptions, cachedExamples } from './example-cache.js';
export { type ExportGgufOptions, exportGguf, type GgufExport } from './export-gguf.js';
export { DEFAULT_NEW_TOKENS, type GenerateRequest, generate } from './generate.js';
export { CARD_NAMES, type CardName, type CardTime } from './gpu-cards.js';
export { type Inspection, inspect } from './inspect.js';
export { type Merge, type MergeOptions, merge } from './merge.js';
export { modelCard, writeModelCard } from './model-card.js';
export type { NoticeEvent } from './notices.js';
export { type ModelOptions, type OpenedModel, openForInference } from './open-model.js';
export { cublasLtVersion, kernelsOf, makeDevice, type Place, type PlaceRequest, resolvePlace } from './place.js';
export { type Plan, type PlanOptions, plan, type StagePlan } from './plan.js';
export {
  DEFAULT_STEPS,
  type Profile,
  type ProfileOptions,
  type ProfileRow,
  profile,
  type StepRecord,
  type TraceEvent,
  traceOf,
} from './profile.js';
export { type Quantized, type QuantizeOptions, quantize } from './quantize.js';
export { RUN_FILES } from './run-folder.js';
export { readScoreInputs, type Score, type ScoreInput, score, writeScores } from './score.js';
export { type ResumeOptions, type RunEvent, resume, type StartEvent, type TrainOptions, train } from './train.js';
