// SPDX-License-Identifier: Apache-2.0
// Generation against the goldens: greedy ids over the cache, stop tokens, logits, merged weights, sampling.
import * as assert from 'uvu/assert';
import {
  CpuDevice,
  type GenerationSettings,
  GREEDY,
  generateTokens,
  type LinearName,
  Llama,
  mergedWeight,
  probabilities,
  type WeightName,
  type WeightValues,
} from '../../engine/index.js';
import {
  ADAPTERS,
  CONFIGS,
  GOLDEN_MODELS,
  type GoldenModel,
  goldenLlama,
  goldenSource,
  loadGoldenAdapter,
  peftName,
} from '../support/golden-model.js';
import { f32, goldenJson, readGolden, relativeToMax } from '../support/goldens.js';
import { onEachInstructionSet, suite } from '../support/harness.js';

const test = suite('generate');

interface Facts {
  new_tokens: number;
  tol_last_logits_rel_to_max: number;
  tol_merged_weights_abs: number;
  prompts: ({ prompt: number[]; eos_stop: { eos_token_id: number; ids: number[] } } & Record<
    Variant,
    { ids: number[] }
  >)[];
}
const VARIANTS = ['no_adapter', 'adapter', 'nf4_adapter', 'merged'] as const;
type Variant = (typeof VARIANTS)[number];
const facts = (model: GoldenModel) => goldenJson<Record<GoldenModel, Facts>>('generate', 'generate.json')[model];
const adapterFile = (model: GoldenModel) =>
  readGolden('forward', model, 'r8_all', 'adapter', 'adapter_model.safetensors');

async function collect(llama: Llama, prompt: number[], settings: Partial<GenerationSettings>): Promise<number[]> {
  const ids: number[] = [];
  for await (const id of generateTokens(llama, prompt, {
    ...GREEDY,
    maxNewTokens: 24,
    stopIds: [],
    seed: 0,
    ...settings,
  }))
    ids.push(id);
  return ids;
}

async function mergedLlama(model: GoldenModel): Promise<Llama> {
  const device = new CpuDevice({ compute: 'f32' });
  const source = goldenSource(model);
  const factors = adapterFile(model);
  const merged = new Map<WeightName, WeightValues>();
  for (let i = 0; i < CONFIGS[model].layers; i++) {
    for (const linear of ADAPTERS.r8_all.targets as readonly LinearName[]) {
      const name = `layers.${i}.${linear}` as const;
      const [A, B] = [f32(factors, peftName(i, linear, 'A')), f32(factors, peftName(i, linear, 'B'))];
      merged.set(name, await mergedWeight(device, source.weight(name), { A, B }, ADAPTERS.r8_all));
    }
  }
  return new Llama(
    device,
    CONFIGS[model],
    { weight: (name) => merged.get(name) ?? source.weight(name) },
    { quantization: 'none' },
  );
}

async function variantOf(model: GoldenModel, variant: Variant): Promise<Llama> {
  if (variant === 'merged') return mergedLlama(model);
  const llama = goldenLlama(model, {
    quantization: variant === 'nf4_adapter' ? 'nf4' : 'none',
    adapter: variant === 'no_adapter' ? undefined : ADAPTERS.r8_all,
  });
  if (variant !== 'no_adapter') loadGoldenAdapter(llama, adapterFile(model));
  return llama;
}

for (const model of GOLDEN_MODELS) {
  for (const variant of VARIANTS) {
    test(`${model} ${variant}: 24 greedy tokens and the logits of the last`, async () => {
      const { prompts, new_tokens, tol_last_logits_rel_to_max } = facts(model);
      const golden = readGolden('generate', `${model}.safetensors`);
      await onEachInstructionSet(async (set) => {
        const llama = await variantOf(model, variant);
        for (const [index, { prompt, [variant]: want }] of prompts.entries()) {
          assert.equal(await collect(llama, prompt, { maxNewTokens: new_tokens }), want.ids, `${set}: prompt ${index}`);
          const whole = [...prompt, ...want.ids.slice(0, -1)];
          const logits = await llama.logits({
            B: 1,
            T: whole.length,
            ids: Int32Array.from(whole),
            labels: Int32Array.from(whole),
            positions: Int32Array.from(whole.keys()),
            segments: new Int32Array(whole.length).fill(1),
          });
          const last = logits.subarray(-llama.config.vocabularySize);
          const off = relativeToMax(last, f32(golden, `${variant}.${index}.last_logits`));
          assert.ok(off <= tol_last_logits_rel_to_max, `${set}: prompt ${index}: last logits off by ${off}`);
        }
        llama.dispose();
      });
    });
  }

  test(`${model}: a stop token ends the text and is given out`, async () => {
    const llama = await variantOf(model, 'no_adapter');
    for (const { prompt, eos_stop } of facts(model).prompts) {
      assert.equal(await collect(llama, prompt, { stopIds: [eos_stop.eos_token_id] }), eos_stop.ids);
    }
    llama.dispose();
  });
}

test('merged weights equal the reference', async () => {
  const golden = readGolden('generate', 'mha_merged_weights.safetensors');
  const device = new CpuDevice({ compute: 'f32' });
  const source = goldenSource('mha');
  const factors = adapterFile('mha');
  let compared = 0;
  for (const linear of ADAPTERS.r8_all.targets as readonly LinearName[]) {
    for (let i = 0; i < 2; i++) {
      const key = [...golden.keys()].find((name) =>
        name.includes(peftName(i, linear, 'A').replace('base_model.model.', '').replace('.lora_A.weight', '')),
      );
      if (!key) continue;
      compared++;
      const [A, B] = [f32(factors, peftName(i, linear, 'A')), f32(factors, peftName(i, linear, 'B'))];
      const { data } = await mergedWeight(device, source.weight(`layers.${i}.${linear}`), { A, B }, ADAPTERS.r8_all);
      const want = f32(golden, key);
      const worst = (data as Float32Array).reduce((most, x, n) => Math.max(most, Math.abs(x - want[n]!)), 0);
      assert.ok(worst <= facts('mha').tol_merged_weights_abs, `${key} is off by ${worst}`);
    }
  }
  assert.ok(compared > 0, 'no merged weight was compared');
});

test('sampling keeps the tokens and probabilities of the reference', () => {
  const { settings, tol_abs } = goldenJson<{
    settings: { temperature?: number; top_p?: number; top_k?: number; repetition_penalty?: number }[];
    tol_abs: number;
  }>('generate', 'sampling.json');
  const golden = readGolden('generate', 'sampling.safetensors');
  const [rows, V] = golden.get('logits')!.shape as [number, number];
  const seen = golden.get('previous_ids')!;
  const seenPerRow = seen.shape[1]!;
  for (const [index, s] of settings.entries()) {
    const want = golden.get(`probs.${index}`)!.data;
    for (let row = 0; row < rows; row++) {
      const logits = f32(golden, 'logits').subarray(row * V, (row + 1) * V);
      const got = probabilities(logits, Array.from(seen.data.subarray(row * seenPerRow, (row + 1) * seenPerRow)), {
        temperature: s.temperature ?? 1,
        topP: s.top_p ?? 1,
        topK: s.top_k ?? 0,
        repetitionPenalty: s.repetition_penalty ?? 1,
      });
      for (let id = 0; id < V; id++) {
        const expected = want[row * V + id]!;
        assert.ok(
          Math.abs(got[id]! - expected) <= tol_abs,
          `setting ${index}, row ${row}, token ${id}: ${got[id]} for ${expected}`,
        );
        // The reference is f32: what underflows there is a kept token all the same.
        assert.ok(
          expected > 0 ? got[id]! > 0 : got[id]! < 1e-37,
          `setting ${index}, row ${row}: token ${id} is kept or dropped wrongly`,
        );
      }
    }
  }
});

test('the same seed draws the same tokens, another seed others', async () => {
  const llama = await variantOf('mha', 'no_adapter');
  const prompt = [238, 193, 49];
  const draw = (seed: number) => collect(llama, prompt, { temperature: 1, topP: 0.95, seed });
  assert.equal(await draw(1), await draw(1));
  assert.not.equal(await draw(1), await draw(2));
  llama.dispose();
});

test('a prompt that fills the context is refused', async () => {
  const llama = await variantOf('mha', 'no_adapter');
  let message = '';
  await collect(llama, new Array(256).fill(5), {}).catch((error: Error) => {
    message = error.message;
  });
  assert.match(message, 'a prompt shorter than the model');
  llama.dispose();
});
