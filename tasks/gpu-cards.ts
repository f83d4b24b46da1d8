// SPDX-License-Identifier: Apache-2.0
// Cards that a run can be planned for without having one: their published peaks, and the time that each op of a step needs
// at those peaks and at the efficiency that we state. Figures of cards: NVIDIA's data sheets and architecture white papers
// (dense bf16 products with f32 sums; f32 without tensor cores; memory as the driver reports it).
import { type Compute, MATRIX_OPS, type OpName, type RunPlan } from '../engine/index.js';

export interface Card {
  name: string;
  memoryBytes: number;
  /** FLOPs per second of products in each compute type. */
  flops: Record<Compute, number>;
  /** Bytes per second. */
  bandwidth: number;
  /** Share of the peak that mma.sync can reach at all: newer instructions are needed for the rest of an H100. */
  reachable: number;
}

const MIB = 2 ** 20;

export const CARDS = {
  h100: {
    name: 'H100 SXM 80 GB',
    memoryBytes: 81559 * MIB,
    flops: { bf16: 989e12, f32: 67e12 },
    bandwidth: 3.35e12,
    reachable: 0.62,
  },
  a100: {
    name: 'A100 SXM 80 GB',
    memoryBytes: 81920 * MIB,
    flops: { bf16: 312e12, f32: 19.5e12 },
    bandwidth: 2.04e12,
    reachable: 1,
  },
  '4090': {
    name: 'GeForce RTX 4090',
    memoryBytes: 24564 * MIB,
    flops: { bf16: 165e12, f32: 82.6e12 },
    bandwidth: 1.01e12,
    reachable: 1,
  },
  '3090': {
    name: 'GeForce RTX 3090',
    memoryBytes: 24576 * MIB,
    flops: { bf16: 71e12, f32: 35.6e12 },
    bandwidth: 0.936e12,
    reachable: 1,
  },
} as const satisfies Record<string, Card>;

export type CardName = keyof typeof CARDS;
export const CARD_NAMES = Object.keys(CARDS) as CardName[];
export const cardOf = (name: CardName): Card => CARDS[name];

/** What a CUDA context with our kernels takes of a card: 0.3 to 0.5 GiB on current drivers. */
export const CONTEXT_BYTES = 512 * MIB;

/** What we count on, of what is reachable: not measured on a GPU yet. */
export const EFFICIENCY = { products: 0.6, memory: 0.8, secondsPerCall: 4e-6 } as const;

export interface CardTime {
  card: string;
  efficiency: typeof EFFICIENCY & { reachable: number };
  stepSeconds: number;
  /** At the card's peaks: no kernel can be faster. */
  peakStepSeconds: number;
  /** Longest first. */
  ops: {
    op: OpName;
    calls: number;
    flops: number;
    bytes: number;
    peakSeconds: number;
    seconds: number;
    boundBy: 'arithmetic' | 'memory' | 'launches';
  }[];
}

/** The time of a planned step on a card. */
export function timeOnCard(run: Pick<RunPlan, 'ops'>, card: Card, compute: Compute): CardTime {
  const ops = [...run.ops].map(([op, { calls, flops, bytes }]) => {
    const peakFlops = MATRIX_OPS.has(op) ? card.flops[compute] : card.flops.f32;
    const [arithmetic, memory] = [flops / peakFlops, bytes / card.bandwidth];
    const times = {
      arithmetic: arithmetic / (MATRIX_OPS.has(op) ? EFFICIENCY.products * card.reachable : 1),
      memory: memory / EFFICIENCY.memory,
      launches: calls * EFFICIENCY.secondsPerCall,
    };
    const seconds = Math.max(...Object.values(times));
    const boundBy = (Object.keys(times) as (keyof typeof times)[]).find((name) => times[name] === seconds)!;
    return { op, calls, flops, bytes, peakSeconds: Math.max(arithmetic, memory), seconds, boundBy };
  });
  ops.sort((a, b) => b.seconds - a.seconds);
  const total = (key: 'seconds' | 'peakSeconds') => ops.reduce((sum, op) => sum + op[key], 0);
  return {
    card: card.name,
    efficiency: { ...EFFICIENCY, reachable: card.reachable },
    stepSeconds: total('seconds'),
    peakStepSeconds: total('peakSeconds'),
    ops,
  };
}
