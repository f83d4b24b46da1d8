// SPDX-License-Identifier: Apache-2.0
// AdamW over the parameter groups of a run (Loshchilov & Hutter 2019), with 32-bit or block-wise 8-bit states (Dettmers et
// al. 2022), and the gradient norm that clipping needs.
import { type AdamwSettings, type Device, type F32, STATE_BLOCK, type Tensor, type U8 } from '../device/index.js';
import type { ParameterGroup, Parameters } from '../model/index.js';

export const OPTIMIZERS = ['adamw', 'adamw-8bit'] as const;

export interface OptimizerSettings {
  kind: (typeof OPTIMIZERS)[number];
  learningRate: number;
  beta1: number;
  beta2: number;
  eps: number;
  /** Decoupled: the value shrinks by learningRate·weightDecay a step, norms excepted. */
  weightDecay: number;
}

type GroupState =
  | { group: ParameterGroup; kind: 'adamw'; m: F32; v: F32 }
  | { group: ParameterGroup; kind: 'adamw-8bit'; m: U8; v: U8; mAbsmax: F32; vAbsmax: F32 };

export class Optimizer {
  readonly #device: Device;
  readonly #states: GroupState[];
  readonly #squares: F32; // (groups)
  /** Updates made; the bias corrections count from 1. */
  updates = 0;

  constructor(
    parameters: Parameters,
    readonly settings: OptimizerSettings,
  ) {
    const device = parameters.device;
    this.#device = device;
    const zeros = (size: number): F32 => {
      const tensor = device.allocate('optimizer', [size]);
      device.fill(tensor, 0);
      return tensor;
    };
    // Both maps of 8-bit codes have 0 at a place of their own, but an absmax of 0 makes every code mean 0.
    const codes = (size: number): U8 => {
      const tensor = device.allocate('optimizer', [size], 'u8');
      device.upload(tensor, new Uint8Array(size));
      return tensor;
    };
    this.#states = parameters.groups.map((group) => {
      const n = group.value.size;
      if (settings.kind === 'adamw') return { group, kind: settings.kind, m: zeros(n), v: zeros(n) };
      const blocks = Math.ceil(n / STATE_BLOCK);
      return { group, kind: settings.kind, m: codes(n), v: codes(n), mAbsmax: zeros(blocks), vAbsmax: zeros(blocks) };
    });
    this.#squares = device.allocate('optimizer', [Math.max(1, this.#states.length)]);
  }

  /** The states by name, which with `updates` are all that the optimizer remembers. */
  tensors(): { name: string; tensor: Tensor }[] {
    return this.#states.flatMap((state) => {
      const group = state.group.decays ? 'decaying' : 'plain';
      const parts: Record<string, Tensor> =
        state.kind === 'adamw'
          ? { m: state.m, v: state.v }
          : { m: state.m, v: state.v, mAbsmax: state.mAbsmax, vAbsmax: state.vAbsmax };
      return Object.entries(parts).map(([part, tensor]) => ({ name: `${group}.${part}`, tensor }));
    });
  }

  /** The 2-norm of all gradients; not finite when one of them is not. */
  async gradientNorm(): Promise<number> {
    for (const [i, { group }] of this.#states.entries()) {
      this.#device.sumOfSquares(this.#device.view(this.#squares, i, [1]), group.gradient);
    }
    const squares = await this.#device.download(this.#squares);
    return Math.sqrt(squares.reduce((total, square) => total + square, 0));
  }

  /** One update of all parameters. */
  update(learningRate: number, gradScale: number): void {
    this.updates++;
    const { beta1, beta2, eps, weightDecay } = this.settings;
    for (const state of this.#states) {
      const { value, gradient, decays } = state.group;
      const settings: AdamwSettings = {
        learningRate,
        beta1,
        beta2,
        eps,
        weightDecay: decays ? weightDecay : 0,
        step: this.updates,
        gradScale,
      };
      if (state.kind === 'adamw') this.#device.adamw(value, gradient, state.m, state.v, settings);
      else this.#device.adamw8bit(value, gradient, state.m, state.v, state.mAbsmax, state.vAbsmax, settings);
    }
  }

  dispose(): void {
    const tensors: Tensor[] = [this.#squares];
    for (const state of this.#states) {
      tensors.push(state.m, state.v);
      if (state.kind === 'adamw-8bit') tensors.push(state.mAbsmax, state.vAbsmax);
    }
    for (const tensor of tensors) this.#device.free(tensor);
  }
}
