// SPDX-License-Identifier: Apache-2.0
// What a recipe may say: each option once, with its type, range, default and one line of help. From this one schema come the
// checks of a recipe file, the flags of the command line, their help and their defaults. Unknown keys are errors.
import { z } from 'zod';

const share = z.number().min(0).max(1);
const count = z.int().min(1);

const LINEARS = ['q', 'k', 'v', 'o', 'gate', 'up', 'down'] as const;

/** `q_proj`, PEFT's name, is accepted for `q`. */
const linear = z.preprocess((name) => (typeof name === 'string' ? name.replace(/_proj$/, '') : name), z.enum(LINEARS));

const source = z
  .strictObject({
    rows: z
      .string()
      .optional()
      .describe('rows of instruction, input, output: a JSON array, JSONL, or a folder of these'),
    english: z.string().optional().describe('the English original of the same rows, aligned by id or position'),
    tokens: z
      .string()
      .optional()
      .describe('JSONL of ready token ids: {"ids": […], "labels": […]}, -100 = not a target'),
    text: z.string().optional().describe('JSONL of plain text: {"text": …}; all of it counts'),
    language: z.string().optional().describe('the language of the rows, by its English name'),
    columns: z
      .record(z.string(), z.string())
      .optional()
      .describe("where a file's column names differ: {input: context}"),
    task: z
      .enum(['taco', 'translate-to-english', 'translate-from-english', 'instruction', 'english'])
      .default('taco')
      .describe('what the model learns from a row'),
    weight: z.number().positive().optional().describe('share of the examples, relative to other sources'),
  })
  .refine((value) => [value.rows, value.tokens, value.text].filter((path) => path !== undefined).length === 1, {
    error: 'give exactly one of rows, tokens, text',
  });

const stage = z.strictObject({
  name: z.string().min(1).describe('shown in the log'),
  data: z.array(source).min(1).describe('where the examples come from'),
  replay: z.number().min(0).max(0.9).default(0).describe("share of the examples that come from earlier stages' data"),
  learningRateFactor: z.number().positive().default(1).describe("factor on the run's learning rate"),
  steps: count.optional().describe('ends after so many steps'),
  tokens: count.optional().describe('ends after so many tokens'),
  epochs: count.optional().describe('ends after so many passes over the data (1 where nothing else ends it)'),
  heldOutLoss: z.number().positive().optional().describe('ends when the held-out loss is below this'),
  plateau: z
    .strictObject({
      patience: count.describe('evaluations to wait for an improvement'),
      improvement: z.number().min(0).default(0).describe('what counts as one'),
    })
    .optional()
    .describe('ends when the held-out loss improves no more'),
});

export const recipeSchema = z.strictObject({
  model: z.string().describe('model directory: config.json, safetensors, tokenizer'),
  tokenizer: z.string().optional().describe("tokenizer file or directory, if not the model's own"),
  quantize: z
    .enum(['nf4', 'none'])
    .default('nf4')
    .describe('how the frozen linear layers are held: 4-bit NF4, double-quantised, or as stored'),
  compute: z
    .enum(['auto', 'f32', 'bf16'])
    .default('auto')
    .describe('what inputs of matrix products are rounded to; auto: bf16 where the device multiplies it'),
  device: z
    .enum(['auto', 'cpu', 'cuda', 'tfjs'])
    .default('auto')
    .describe(
      'where the run computes; auto: on an NVIDIA GPU where one can be used, else on the processor; tfjs: over TensorFlow.js, which you install',
    ),
  cublasLt: z
    .boolean()
    .default(false)
    .describe("on a GPU, large products by NVIDIA's library where it is found; bits then depend on its version"),
  threads: z.int().min(0).default(0).describe('threads of the kernels; 0: one per core'),
  seed: z.int().min(0).default(0).describe('of the adapter, the order of the data and dropout'),
  memoryGiB: z.number().positive().optional().describe('memory the run may use; default: what is available'),
  activations: z
    .enum(['auto', 'keep-all', 'keep-midpoints', 'keep-inputs'])
    .default('auto')
    .describe('what is kept for the backward pass; auto: as much as fits the memory'),
  adapter: z
    .strictObject({
      type: z
        .enum(['lora', 'full'])
        .default('lora')
        .describe('lora: low-rank factors beside a frozen model; full: every weight (small models)'),
      rank: count.default(16).describe('R of the low-rank factors'),
      alpha: z.number().positive().default(32).describe("the factors' product is scaled by alpha/rank"),
      dropout: z
        .number()
        .min(0)
        .max(0.99)
        .default(0.05)
        .describe("probability of dropping an element of a factor's input"),
      rslora: z.boolean().default(false).describe('scale by alpha/√rank instead'),
      targets: z
        .array(linear)
        .min(1)
        .default([...LINEARS])
        .describe('linear layers that get factors'),
    })
    .prefault({})
    .describe('what trains'),
  optimizer: z
    .strictObject({
      kind: z.enum(['adamw', 'adamw-8bit']).default('adamw').describe('32-bit or 8-bit states'),
      paged: z
        .enum(['auto', 'on', 'off'])
        .default('auto')
        .describe('on a GPU, states in memory that the driver moves to the host; auto: where they would not fit'),
      learningRate: z.number().positive().default(2e-4).describe('at its highest'),
      beta1: share.default(0.9).describe('decay of the first moment'),
      beta2: share.default(0.999).describe('decay of the second moment'),
      eps: z.number().positive().default(1e-8).describe('added to the root of the second moment'),
      weightDecay: z.number().min(0).default(0).describe('decoupled'),
      maxGradientNorm: z.number().min(0).default(1).describe('longer gradients are scaled down to it; 0: no limit'),
      schedule: z
        .enum(['constant', 'linear', 'cosine'])
        .default('cosine')
        .describe('of the learning rate after its warm-up'),
      warmupSteps: z.int().min(0).default(0).describe('steps over which the learning rate rises from 0'),
      maxSkippedSteps: z
        .int()
        .min(0)
        .default(10)
        .describe('steps with values that are not finite, which change nothing, before the run stops'),
    })
    .prefault({})
    .describe('how it trains'),
  batch: z
    .strictObject({
      context: count.default(512).describe('T, tokens of a row'),
      rows: count.default(1).describe('B, rows of a micro-batch'),
      accumulation: count.default(1).describe('micro-batches of a step'),
      pack: z.boolean().default(true).describe('several examples in a row, each seeing itself alone'),
      lossNormalization: z
        .enum(['tokens', 'micro-batches'])
        .default('tokens')
        .describe("a step's loss: sum over targets ÷ targets, or mean of the micro-batches' means"),
    })
    .prefault({})
    .describe('how examples become batches'),
  data: z
    .strictObject({
      template: z.string().default('guanaco').describe('guanaco, alpaca, paper, llama3, plain, or a file'),
      format: z
        .enum(['clean', 'released'])
        .default('clean')
        .describe("the chain's literal form; released: byte for byte what the authors' adapters were trained to write"),
      loss: z
        .enum(['all', 'finalAnswerOnly', 'withoutTranslation'])
        .default('all')
        .describe('parts of the chain that count in the loss'),
      countPrompt: z.boolean().default(false).describe('prompts count in the loss too'),
      tooLong: z
        .enum(['drop', 'truncate', 'error'])
        .default('drop')
        .describe('what happens to examples longer than the context'),
      shuffle: z.boolean().default(true).describe('a new order in each epoch, from the seed'),
      heldOutShare: share.default(0).describe('rows kept out of training, chosen by the hash of their ids'),
      heldOutIds: z.string().optional().describe('JSON array of row ids kept out of training, instead of a share'),
      evaluateEvery: z
        .int()
        .min(0)
        .default(0)
        .describe("steps between measurements of the held-out loss; 0: at a stage's end alone"),
      evaluateBatches: count.default(16).describe('held-out batches of a measurement, at most'),
    })
    .prefault({})
    .describe('how rows become examples'),
  checkpoints: z
    .strictObject({
      every: z
        .int()
        .min(0)
        .default(100)
        .describe("steps between checkpoints to resume from; 0: at a stage's end and when stopped, alone"),
      keep: count.default(2).describe('checkpoints that are kept'),
    })
    .prefault({})
    .describe('how much of a run an accident can cost'),
  stages: z.array(stage).min(1).describe('the curriculum, in order'),
});

/** A recipe with all defaults filled in. */
export type Recipe = z.infer<typeof recipeSchema>;
export type RecipeStage = z.infer<typeof stage>;
export type RecipeSource = z.infer<typeof source>;
