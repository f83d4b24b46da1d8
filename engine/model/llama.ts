// SPDX-License-Identifier: Apache-2.0
// The LLaMA model (Touvron et al. 2023): embedding, blocks, final norm, head. It offers four passes: loss with gradients,
// loss per token, logits, and logits of new tokens over a cache. It knows nothing of optimizers, files or text. Passes are
// asynchronous only so that the process can answer signals between layers; a pass must end before the next begins.
import type { Dense, Device, F32 } from '../device/index.js';
import type { LayerCache } from './attention.js';
import { type Batch, type DeviceBatch, freeBatch, positionsNeeded, singleRow, uploadBatch } from './batch.js';
import {
  type ActivationPolicy,
  type Block,
  type BlockRecord,
  blockBackward,
  blockForward,
  blockInference,
} from './block.js';
import type { LlamaConfig } from './config.js';
import type { PassContext } from './context.js';
import { type Lora, type LoraSettings, loraName, loraScale, loraSpecs } from './lora.js';
import { Parameters } from './parameters.js';
import type { SeedOf } from './projection.js';
import { rotaryTable } from './rotary.js';
import {
  type LoadedWeights,
  loadFrozen,
  loadTrainable,
  projectionOf,
  type Quantization,
  type WeightSource,
} from './weights.js';

export interface LlamaOptions {
  quantization: Quantization;
  /** Adapter to attach; its parameters are zero until initialised or loaded. `full` makes every weight a parameter. */
  adapter?: LoraSettings | 'full' | undefined;
}

export interface GradientPassOptions {
  /** Factor on the summed loss whose gradient is taken: 1 / targets of the step. */
  scale: number;
  policy: ActivationPolicy;
  seedOf: SeedOf;
}

/** Called after each part of a pass with its output, to find where a value went wrong. */
export type Observer = (place: string, tensor: F32) => Promise<void>;

const NO_DROPOUT: SeedOf = () => undefined;

export class Llama {
  readonly #weights: LoadedWeights;
  readonly #blocks: readonly Block[];
  #rotary: { table: F32; positions: number } | undefined;
  /** What trains, if anything. */
  readonly parameters: Parameters | undefined;
  readonly adapter: LoraSettings | 'full' | undefined;

  constructor(
    readonly device: Device,
    readonly config: LlamaConfig,
    source: WeightSource,
    { quantization, adapter }: LlamaOptions,
  ) {
    this.adapter = adapter;
    if (adapter === 'full') {
      this.#weights = loadTrainable(device, config, source);
      this.parameters = this.#weights.parameters;
    } else {
      this.#weights = loadFrozen(device, config, source, quantization);
      this.parameters = adapter && new Parameters(device, loraSpecs(config, adapter));
    }
    this.#blocks = this.#weights.blocks;
    if (adapter && adapter !== 'full') this.#attach(adapter, this.parameters!);
  }

  #attach(settings: LoraSettings, parameters: Parameters): void {
    const scale = loraScale(settings);
    for (const [i, block] of this.#blocks.entries()) {
      for (const linear of settings.targets) {
        const lora: Lora = {
          A: parameters.get(loraName(i, linear, 'A')),
          B: parameters.get(loraName(i, linear, 'B')),
          scale,
          dropout: settings.dropout,
        };
        projectionOf(block, linear).lora = lora;
      }
    }
  }

  get #head(): Dense {
    return this.#weights.head;
  }

  /**
   * One micro-batch forward and backward. Parameter gradients += scale·∂Σloss.
   * @param lossSum (1) += the summed loss of the targets
   */
  async lossAndGradients(batch: Batch, lossSum: F32, options: GradientPassOptions): Promise<void> {
    const { device } = this;
    const rows = uploadBatch(device, batch);
    const ctx = this.#context(rows, positionsNeeded(batch), options.seedOf);
    const { C, M } = { C: this.config.width, M: ctx.M };
    const full = this.#weights.parameters;

    let x = this.#embed(rows);
    const records: BlockRecord[] = [];
    for (const [i, block] of this.#blocks.entries()) {
      device.scope(`layer ${i} forward`);
      const { out, record } = blockForward(ctx, i, block, x, options.policy);
      records.push(record);
      x = out;
      await breath();
    }

    device.scope('head');
    const rstd = device.allocate('activations', [M]);
    const normed = device.allocate('activations', [M, C]);
    device.rmsnormForward(normed, rstd, x, this.#weights.finalNorm, this.config.rmsNormEps);
    const loss = device.allocate('activations', [M]);
    const dnormed = device.allocate('activations', [M, C]);
    const dhead = full?.get(this.config.tiedHead ? 'embedding' : 'head').gradient;
    device.crossEntropyForwardBackward(
      loss,
      dnormed,
      dhead,
      normed,
      this.#head,
      rows.labels,
      options.scale,
      rows.targets,
    );
    device.sum(lossSum, loss);
    device.free(loss);
    device.free(normed);
    const dx = device.allocate('activations', [M, C]);
    device.rmsnormBackward(dx, full?.get('finalNorm').gradient, dnormed, x, rstd, this.#weights.finalNorm, false);
    for (const tensor of [dnormed, rstd, x]) device.free(tensor);

    for (let i = this.#blocks.length - 1; i >= 0; i--) {
      device.scope(`layer ${i} backward`);
      blockBackward(ctx, i, this.#blocks[i]!, dx, records.pop()!, i > 0 || full !== undefined);
      await breath();
    }
    device.scope('embedding');
    if (full) device.embeddingBackward(full.get('embedding').gradient, dx, rows.ids);
    device.free(dx);
    freeBatch(device, rows);
    device.scope('');
  }

  /** (B·T) loss of each position that predicts a target, 0 elsewhere. */
  async tokenLosses(batch: Batch, observe?: Observer): Promise<Float32Array> {
    const { device } = this;
    const rows = uploadBatch(device, batch);
    const normed = await this.#infer(rows, positionsNeeded(batch), undefined, observe);
    const loss = device.allocate('activations', [rows.B * rows.T]);
    device.crossEntropyForward(loss, normed, this.#head, rows.labels, rows.targets);
    const values = await device.download(loss);
    device.free(loss);
    device.free(normed);
    freeBatch(device, rows);
    return values;
  }

  /** (B·T,V) logits of every position. */
  async logits(batch: Batch): Promise<Float32Array> {
    const { device } = this;
    const rows = uploadBatch(device, batch);
    const normed = await this.#infer(rows, positionsNeeded(batch));
    const values = await this.#logitsOf(normed);
    device.free(normed);
    freeBatch(device, rows);
    return values;
  }

  /**
   * Runs new tokens of one sequence after those in the cache, and returns the (V) logits that follow the last of them.
   * The caller advances the cache.
   */
  async nextLogits(ids: ArrayLike<number>, cache: readonly LayerCache[], position: number): Promise<Float32Array> {
    const { device, config } = this;
    const row = singleRow(ids);
    const batch: Batch = { ...row, positions: row.positions.map((t) => t + position) };
    const rows = uploadBatch(device, batch);
    const normed = await this.#infer(rows, position + ids.length, cache);
    const last = device.view(normed, (ids.length - 1) * config.width, [1, config.width]);
    const values = await this.#logitsOf(last);
    device.free(normed);
    freeBatch(device, rows);
    return values;
  }

  dispose(): void {
    if (this.#rotary) this.device.free(this.#rotary.table);
    if (this.adapter !== 'full') this.parameters?.dispose();
    this.#weights.dispose();
    this.device.trim();
  }

  #embed(rows: DeviceBatch): F32 {
    const x = this.device.allocate('activations', [rows.B * rows.T, this.config.width]);
    this.device.embeddingForward(x, rows.ids, this.#weights.embedding);
    return x;
  }

  /** (M,C) normalised output of the last block. */
  async #infer(rows: DeviceBatch, positions: number, cache?: readonly LayerCache[], observe?: Observer): Promise<F32> {
    const { device } = this;
    const ctx = this.#context(rows, positions, NO_DROPOUT);
    const x = this.#embed(rows);
    await observe?.('the embedding', x);
    for (const [i, block] of this.#blocks.entries()) {
      blockInference(ctx, i, block, x, cache?.[i]);
      await observe?.(`the output of layer ${i}`, x);
      await breath();
    }
    const rstd = device.allocate('activations', [ctx.M]);
    const normed = device.allocate('activations', x.shape);
    device.rmsnormForward(normed, rstd, x, this.#weights.finalNorm, this.config.rmsNormEps);
    device.free(rstd);
    device.free(x);
    await observe?.('the final norm', normed);
    return normed;
  }

  async #logitsOf(normed: F32): Promise<Float32Array> {
    const { device, config } = this;
    const logits = device.allocate('activations', [normed.size / config.width, config.vocabularySize]);
    device.linearForward(logits, normed, this.#head);
    const values = await device.download(logits);
    device.free(logits);
    return values;
  }

  #context(rows: DeviceBatch, positions: number, seedOf: SeedOf): PassContext {
    const { device, config } = this;
    const { B, T } = rows;
    return {
      device,
      config,
      B,
      T,
      M: B * T,
      positions: rows.positions,
      starts: rows.starts,
      rotary: this.#rotaryFor(positions),
      seedOf,
    };
  }

  /** The rotary table, made anew when a longer sequence arrives. */
  #rotaryFor(positions: number): F32 {
    if (this.#rotary && this.#rotary.positions >= positions) return this.#rotary.table;
    if (this.#rotary) this.device.free(this.#rotary.table);
    const rounded = Math.ceil(positions / 64) * 64;
    const table = this.device.allocate('weights', [rounded, 2, this.config.headWidth / 2]);
    this.device.upload(table, rotaryTable(this.config, rounded));
    this.#rotary = { table, positions: rounded };
    return table;
  }
}

/** Lets the event loop run: signals, progress and aborts are seen between layers. */
function breath(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
