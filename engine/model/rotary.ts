// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (Su et al. 2021): inverse frequencies with the two scalings LLaMA models use, and the table of
// cosines and sines that the rope op reads. Computed in double, rounded once.
import type { LlamaConfig } from './config.js';

/** (D/2) angle per position of each pair. The llama3 scaling is that of Llama 3.1's reference code. */
export function inverseFrequencies(config: LlamaConfig): Float64Array {
  const { headWidth: D, ropeTheta, ropeScaling } = config;
  const frequencies = Float64Array.from({ length: D / 2 }, (_, i) => ropeTheta ** ((-2 * i) / D));
  if (!ropeScaling) return frequencies;
  if (ropeScaling.type === 'linear') return frequencies.map((f) => f / ropeScaling.factor);
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalMaxPositions } = ropeScaling;
  return frequencies.map((f) => {
    const wavelength = (2 * Math.PI) / f;
    if (wavelength < originalMaxPositions / highFrequencyFactor) return f;
    if (wavelength > originalMaxPositions / lowFrequencyFactor) return f / factor;
    const smooth =
      (originalMaxPositions / wavelength - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
    return (1 - smooth) * (f / factor) + smooth * f;
  });
}

/** (P,2,D/2): for each position the cosines, then the sines. */
export function rotaryTable(config: LlamaConfig, positions: number): Float32Array {
  const frequencies = inverseFrequencies(config);
  const half = frequencies.length;
  const table = new Float32Array(positions * 2 * half);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < half; i++) {
      const angle = p * frequencies[i]!;
      table[p * 2 * half + i] = Math.cos(angle);
      table[p * 2 * half + half + i] = Math.sin(angle);
    }
  }
  return table;
}
