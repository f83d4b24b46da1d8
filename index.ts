// SPDX-License-Identifier: Apache-2.0
// What `import … from 'tacotune'` gives.
export { UserError } from './errors.js';
export { loadRecipe, type Recipe } from './recipes/index.js';
export {
  type GenerateRequest,
  generate,
  type Inspection,
  inspect,
  type ModelOptions,
  type OpenedModel,
  openForInference as loadModel,
  type Plan,
  type PlanOptions,
  type Profile,
  type ProfileOptions,
  plan,
  profile,
  type ResumeOptions,
  type RunEvent,
  readScoreInputs,
  resume,
  type Score,
  type ScoreInput,
  score,
  type TrainOptions,
  train,
} from './tasks/index.js';
