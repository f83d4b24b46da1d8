// SPDX-License-Identifier: Apache-2.0
// How much scratch memory an op takes on a GPU, from its shapes alone: the formulas of cuda/linear.h, cuda/attention.h and
// cuda/cross_entropy.h, as upper bounds (operands are taken to be as badly aligned as their sizes allow). One piece of
// memory serves all ops, so a run holds the largest need. A test holds this and the kernels together.

export type StoredAs = 'f32' | 'bf16' | 'f16' | 'nf4';
export type Pattern = 'forward' | 'backward' | 'weight';

const ENOUGH_TILES = 128;
const LEAST_SPLIT_DEPTH = 128;
const TILE_DEPTH = 32;
const FLAT_ROWS = 64;
const NARROW_COLUMNS = 64;
const FEW_ROWS = 8;

const ceil = (n: number, step: number): number => Math.ceil(n / step) * step;
/** Each array begins at a multiple of 256 bytes. */
const array = (bytes: number): number => ceil(bytes, 256);

/** Elements in rows of whole 16-byte pieces. */
const rounded = (lines: number, width: number): number => array(2 * lines * ceil(width, 8));

/** The results of a depth that is summed in parts. */
function splits(M: number, N: number, D: number, bf16: boolean, narrows: boolean): number {
  let [rows, columns] = [64, 64];
  if (bf16) [rows, columns] = M <= FLAT_ROWS ? [32, 128] : narrows && N <= NARROW_COLUMNS ? [128, 64] : [128, 128];
  const tiles = Math.ceil(M / rows) * Math.ceil(N / columns);
  if (tiles >= ENOUGH_TILES || tiles === 0) return 0;
  const wanted = Math.max(1, Math.min(Math.ceil(ENOUGH_TILES / tiles), Math.floor(D / LEAST_SPLIT_DEPTH)));
  const depth = Math.max(TILE_DEPTH, ceil(Math.ceil(D / wanted), TILE_DEPTH));
  const parts = Math.max(1, Math.ceil(D / depth));
  return parts > 1 ? array(4 * parts * M * N) : 0;
}

/** Partial results share one piece, which grows by being taken anew. */
function grown(needs: number[]): number {
  let [taken, largest] = [0, 0];
  for (const bytes of needs) {
    if (bytes > largest) taken += bytes;
    largest = Math.max(largest, bytes);
  }
  return taken;
}

const CUBLASLT_WORKSPACE = 32 * 2 ** 20;
/** A sum of squares: one float, and a double for each of at most 1024 parts. */
const NORM = 256 + 8 * 1024;

/** What a product out (M,N) takes besides when cuBLASLt computes it, and ours the first time as well. */
const comparison = (M: number, N: number): number => CUBLASLT_WORKSPACE + array(4 * M * N) + 2 * NORM;

export interface ProductShape {
  rows: number;
  N: number;
  K: number;
  type: StoredAs;
  bf16: boolean;
  /** The least size of products that go to cuBLASLt; 0: none do. */
  cublasLt?: number;
  /** Depth of the low-rank product that is added; 0: none. */
  R?: number;
  alpha?: number;
}

/** A product of `rows` rows with a weight (N,K): out·, dinp· or dweight·. */
export function linearScratch(
  pattern: Pattern,
  { rows, N, K, type, bf16, cublasLt = 0, R = 0, alpha = 1 }: ProductShape,
): number {
  const ready = type === 'nf4' ? K % 64 === 0 : type !== 'f32' && K % 8 === 0;
  const elsewhere = bf16 && cublasLt > 0 && Math.min(rows, N, K) >= cublasLt;
  const weight = bf16 && (!ready || (elsewhere && type !== 'bf16')) ? rounded(N, K) : 0;
  const narrows = type !== 'f16' && !(type === 'nf4' && ready);
  if (pattern === 'weight')
    return (
      (bf16 ? rounded(rows, N) + rounded(rows, K) : 0) +
      splits(N, K, rows, bf16, true) +
      (elsewhere ? comparison(N, K) : 0)
    );
  const forward = pattern === 'forward';
  const [columns, depth] = forward ? [N, K] : [K, N];
  const factors = bf16 && R > 0 ? rounded(rows, R) + (forward ? rounded(N, R) : rounded(R, K)) : 0;
  const fused = bf16 && alpha === 1 && !elsewhere && !(forward && rows <= FEW_ROWS);
  const partial = [
    splits(rows, columns, depth, bf16, narrows),
    R > 0 && !fused ? splits(rows, columns, R, bf16, true) : 0,
  ];
  return (
    (bf16 ? rounded(rows, depth) : 0) + weight + factors + grown(partial) + (elsewhere ? comparison(rows, columns) : 0)
  );
}

export interface AttentionShape {
  B: number;
  Tq: number;
  Tk: number;
  Hq: number;
  Hkv: number;
  D: number;
}

const LEAST_QUERIES = 16;
const WIDEST = 128;

export function attentionScratch(
  pass: 'forward' | 'backward',
  { B, Tq, Tk, Hq, Hkv, D }: AttentionShape,
  bf16: boolean,
): number {
  const flash = bf16 && Tq >= LEAST_QUERIES && D <= WIDEST;
  const W = [32, 64, 96, 128].find((width) => width >= D) ?? 0;
  const [queries, keys] = [B * Tq * Hq, B * Tk * Hkv];
  const operands = flash ? array(2 * queries * W) + 2 * array(2 * keys * W) : 0;
  if (pass === 'backward') return array(4 * queries) + operands + (flash ? array(2 * queries * W) : 0);
  if (flash || queries === 0) return operands;
  const wanted = Math.min(
    Math.max(1, Math.ceil(1024 / (queries * Math.ceil(D / 128)))),
    Math.max(1, Math.ceil(Tk / 256)),
  );
  const parts = Math.ceil(Tk / Math.ceil(Tk / wanted));
  return parts > 1 ? array(4 * queries * parts * (D + 2)) : 0;
}

const LOGITS_BYTES = 64 * 2 ** 20;
const LEAST_LOGITS_ROWS = 16;

/** The fused head over inp (M,C) and a weight (V,C). */
export function crossEntropyScratch(
  { M, V, C, type }: { M: number; V: number; C: number; type: StoredAs },
  { bf16, gradients, trains }: { bf16: boolean; gradients: boolean; trains: boolean },
): number {
  if (M === 0) return 0;
  const pitch = ceil(V, 8);
  const fitting = Math.floor(LOGITS_BYTES / (4 * pitch) / LEAST_LOGITS_ROWS) * LEAST_LOGITS_ROWS;
  const rows = Math.min(M, Math.max(LEAST_LOGITS_ROWS, fitting));
  const operands = bf16 ? rounded(rows, C) : array(4 * rows * C);
  const weight = bf16 && (type === 'f32' || C % 8 !== 0) ? rounded(V, C) : 0;
  const narrows = type !== 'f16';
  const partial = grown([
    splits(rows, V, C, bf16, narrows),
    gradients && trains ? splits(V, C, rows, bf16, true) : 0,
    gradients ? splits(rows, C, V, bf16, narrows) : 0,
  ]);
  return (
    array(4 * (M + 1)) + array(4 * rows * pitch) + operands + (gradients ? array(4 * rows * C) : 0) + weight + partial
  );
}

/** The partial sums of a trained norm's gradient: at most so many rows (rmsnorm.h). */
const RMSNORM_PARTS = 64;

export const rmsnormScratch = (M: number, C: number): number => array(4 * Math.min(M, RMSNORM_PARTS) * C);

/** It is taken in steps of so many bytes. */
const STEP = 2 ** 20;

/** What a GPU holds for scratch after ops of these needs. */
export const heldScratch = (largestNeed: number): number => (largestNeed > 0 ? ceil(largestNeed, STEP) : 0);
