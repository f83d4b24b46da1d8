// SPDX-License-Identifier: Apache-2.0
// What trains. All values of a run lie in one flat tensor and all gradients in another, so that clipping and the optimizer
// are one call each; a parameter is a view of both. A frozen weight has no gradient slot at all.
import type { Device, F32 } from '../device/index.js';
import { elementsOf } from '../device/index.js';

export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** Weight decay applies: matrices, not norms. */
  readonly decays: boolean;
  readonly value: F32;
  readonly gradient: F32;
}

export interface ParameterGroup {
  readonly decays: boolean;
  readonly value: F32; // (n) all values of the group
  readonly gradient: F32; // (n)
}

export interface ParameterSpec {
  name: string;
  shape: readonly number[];
  decays: boolean;
}

export class Parameters {
  readonly list: readonly Parameter[];
  /** Contiguous runs of the flat tensors that share a decay rule. */
  readonly groups: readonly ParameterGroup[];
  readonly size: number;
  readonly #byName: ReadonlyMap<string, Parameter>;
  readonly #flat: { value: F32; gradient: F32 };

  constructor(
    readonly device: Device,
    specs: readonly ParameterSpec[],
  ) {
    // Those that decay first, so that there are at most two groups.
    const ordered = [...specs.filter((spec) => spec.decays), ...specs.filter((spec) => !spec.decays)];
    this.size = ordered.reduce((total, spec) => total + elementsOf(spec.shape), 0);
    const value = device.allocate('adapter', [this.size]);
    const gradient = device.allocate('gradients', [this.size]);
    this.#flat = { value, gradient };
    let offset = 0;
    this.list = ordered.map(({ name, shape, decays }) => {
      const parameter = {
        name,
        shape,
        decays,
        value: device.view(value, offset, shape),
        gradient: device.view(gradient, offset, shape),
      };
      offset += elementsOf(shape);
      return parameter;
    });
    this.#byName = new Map(this.list.map((parameter) => [parameter.name, parameter]));
    const decaying = ordered.filter((spec) => spec.decays).reduce((total, spec) => total + elementsOf(spec.shape), 0);
    const bounds: [boolean, number, number][] = [
      [true, 0, decaying],
      [false, decaying, this.size],
    ];
    this.groups = bounds
      .filter(([, start, end]) => end > start)
      .map(([decays, start, end]) => ({
        decays,
        value: device.view(value, start, [end - start]),
        gradient: device.view(gradient, start, [end - start]),
      }));
  }

  get(name: string): Parameter {
    const parameter = this.#byName.get(name);
    if (!parameter) throw new Error(`no parameter is called '${name}'`);
    return parameter;
  }

  zeroGradients(): void {
    this.device.fill(this.#flat.gradient, 0);
  }

  dispose(): void {
    this.device.free(this.#flat.value);
    this.device.free(this.#flat.gradient);
  }
}
