// SPDX-License-Identifier: Apache-2.0
// The entrance of engine/training/.
export { reasonToEnd, type StageEnd, type StageProgress } from './curriculum.js';
export { OPTIMIZERS, Optimizer, type OptimizerSettings } from './optimizer.js';
export { type PlanRequest, planRun, planWithin, type RunPlan } from './plan.js';
export { SCHEDULES, type Schedule, scheduleFactor } from './schedule.js';
export {
  clipScale,
  meanLoss,
  type PlacedBatch,
  type RunOptions,
  type Stage,
  type StepEvent,
  Trainer,
  type TrainingEvent,
  TrainingRun,
  type TrainingSettings,
  type TrainingState,
} from './trainer.js';
