// SPDX-License-Identifier: Apache-2.0
// What `import … from 'tacotune'` gives.
export { UserError } from './errors.js';
export { loadRecipe, type Recipe } from './recipes/index.js';
export { type GenerateRequest, generate } from './tasks/generate.js';
export { type Inspection, inspect } from './tasks/inspect.js';
export { type ModelOptions, type OpenedModel, openForInference as loadModel } from './tasks/open-model.js';
export { type Plan, plan } from './tasks/plan.js';
export { type Profile, profile } from './tasks/profile.js';
export { readScoreInputs, type Score, type ScoreInput, score } from './tasks/score.js';
export { type RunEvent, type TrainOptions, train } from './tasks/train.js';
