// SPDX-License-Identifier: Apache-2.0
// Child of ops.test.ts, blas.test.ts and others: runs every case of the op tables on the GPU that the driver drives and
// compares with the reference. Prints one JSON line an op. Arguments: words that ops' names contain.
import {
  attentionScratch,
  crossEntropyScratch,
  type GpuSpan,
  linearScratch,
  type NativeGpu,
  openGpu,
  type Pattern,
  type StoredAs,
} from '../../kernels/index.js';
import { opTables } from '../ops/cases.js';
import { difference, execute, sameBits, under } from '../ops/execute.js';
import {
  type Arguments,
  describeShape,
  makeArguments,
  type Operand,
  type OpName,
  type OpTable,
  type Tolerance,
  type Values,
} from '../ops/op-table.js';

// Without fences, allocations end where operands do, and a driver that checks bounds sees a read too far as well.
const FENCE_BYTES = process.argv.includes('--exact') ? 0 : 64;
// The least size of products that go to cuBLASLt.
const LEAST = process.argv.includes('--cublaslt') ? 1 : 0;

/** What bf16 products differ by on a GPU: both sides round factors alike, but fused ops round once more inside. */
const BF16: Partial<Record<OpName, Tolerance>> = {
  attentionForward: {
    error: 5e-3,
    floor: 1,
    reason: 'probabilities are rounded to bf16, 2^-9 each, before they weigh values of up to 4',
  },
  attentionBackward: {
    error: 2e-2,
    floor: 1,
    reason: 'P and dS are rounded to bf16 before sums over keys, or over queries and heads',
  },
  crossEntropyForwardBackward: {
    error: 3e-2,
    floor: 'rms',
    reason: 'the gradient of the logits is rounded to bf16 before its product',
  },
};

/** The slower drivers leave out what larger cases only repeat: tile edges and tails are in the small ones. */
const MOST_ELEMENTS = process.argv.includes('--small') ? 60_000 : Number.POSITIVE_INFINITY;

function elementsOf(args: Arguments): number {
  return Object.values(args).reduce<number>(
    (sum, value) => sum + (typeof value === 'number' ? 0 : value.values.length),
    0,
  );
}

interface Placed {
  operand: Operand;
  span: GpuSpan;
  start: number;
  bytes: number;
  address: number;
}

function place(gpu: NativeGpu, operand: Operand, shift: number): Placed {
  const { values } = operand;
  const start = FENCE_BYTES + shift * values.BYTES_PER_ELEMENT;
  const all = new Uint8Array(start + values.byteLength + FENCE_BYTES).fill(0xff);
  all.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), start);
  const address = gpu.allocate(all.length, false);
  gpu.upload(address, all);
  const span = { address: address + start, count: values.length, elementBytes: values.BYTES_PER_ELEMENT };
  return { operand, span, start, bytes: all.length, address };
}

async function fetched(gpu: NativeGpu, name: string, { operand, start, bytes, address }: Placed): Promise<Values> {
  const all = new Uint8Array(await gpu.download(address, bytes));
  gpu.release(address);
  const { values, role } = operand;
  const end = start + values.byteLength;
  for (let i = 0; i < all.length; i++) {
    if ((i < start || i >= end) && all[i] !== 0xff) throw new Error(`wrote outside of ${name}, at byte ${i - start}`);
  }
  const View = values.constructor as new (buffer: ArrayBuffer) => Values;
  const got = new View(all.slice(start, end).buffer as ArrayBuffer);
  if (role === 'in' && !sameBits(got, values)) throw new Error(`changed its input ${name}`);
  return got;
}

/** Calls an op on the GPU, as execute() does on the CPU. */
async function executeOnGpu(
  gpu: NativeGpu,
  op: OpName,
  args: Arguments,
  shift: number,
): Promise<Record<string, Values>> {
  const placed = Object.entries(args).map(
    ([name, value]) => [name, typeof value === 'number' ? value : place(gpu, value, shift)] as const,
  );
  const list = placed.map(([, value]) => (typeof value === 'number' ? value : value.span));
  (gpu[op] as (...list: unknown[]) => void)(...list);
  const outputs: Record<string, Values> = {};
  for (const [name, value] of placed) {
    if (typeof value === 'number') continue;
    const got = await fetched(gpu, name, value);
    if (value.operand.role !== 'in') outputs[name] = got;
  }
  return outputs;
}

const STORED: readonly StoredAs[] = ['f32', 'bf16', 'f16'];

/** What plans count on, for the ops that take more than a few bytes, of aligned operands. */
function plannedScratch(op: OpName, shape: Record<string, number>): number | undefined {
  const { M = 0, N = 0, K = 0, R = 0, V = 0, C = 0, alpha = 1, compute = 0, type = 0 } = shape;
  const bf16 = compute === 1;
  const product = (pattern: Pattern, stored: StoredAs) =>
    linearScratch(pattern, { rows: M, N, K, type: stored, bf16, cublasLt: LEAST, R, alpha });
  const head = { M, V, C, type: STORED[type]! };
  const trains = shape['frozen'] === 0;
  const heads = { B: shape['B']!, Hq: shape['Hq']!, Hkv: shape['Hkv']!, D: shape['D']! };
  switch (op) {
    case 'linearForward':
      return product('forward', STORED[type]!);
    case 'linearBackward':
      return product('backward', STORED[type]!);
    case 'linearWeightBackward':
      return product('weight', 'f32');
    case 'linearNf4Forward':
      return product('forward', 'nf4');
    case 'linearNf4Backward':
      return product('backward', 'nf4');
    case 'crossEntropyForward':
      return crossEntropyScratch(head, { bf16, gradients: false, trains });
    case 'crossEntropyForwardBackward':
      return crossEntropyScratch(head, { bf16, gradients: true, trains });
    case 'attentionForward':
      return attentionScratch('forward', { ...heads, Tq: shape['Tq']!, Tk: shape['Tk']! }, bf16);
    case 'attentionBackward':
      return attentionScratch('backward', { ...heads, Tq: shape['T']!, Tk: shape['T']! }, bf16);
    default:
      return undefined;
  }
}

function toleranceOf(op: OpName, { tolerance }: OpTable, shape: Record<string, number>): Tolerance {
  return (shape['compute'] === 1 ? BF16[op] : undefined) ?? tolerance;
}

interface Checked {
  op: OpName;
  cases: number;
  /** Of its products, those that cuBLASLt computed. */
  elsewhere: number;
  troubles: string[];
}

const productsElsewhere = (gpu: NativeGpu): number => (LEAST > 0 ? gpu.cublasLt().products : 0);

async function check(gpu: NativeGpu, op: OpName): Promise<Checked> {
  const before = productsElsewhere(gpu);
  const definition = opTables[op];
  const troubles: string[] = [];
  let cases = 0;
  for (const [i, shape] of definition.shapes.entries()) {
    const args = makeArguments(op, definition, shape);
    if (elementsOf(args) > MOST_ELEMENTS) continue;
    const want = under('reference', 1, () => execute(op, args));
    cases++;
    try {
      const shift = LEAST > 0 ? 0 : i % 2; // what is off an alignment does not go to the library
      const got = await executeOnGpu(gpu, op, args, shift);
      const [need, planned] = [gpu.scratchNeed(), plannedScratch(op, shape)];
      // With cuBLASLt the plan holds what the first product of a shape takes.
      const asPlanned = planned === undefined || need === planned || (LEAST > 0 && need < planned);
      if (!asPlanned && i % 2 === 0) {
        troubles.push(`${describeShape(shape)}: took ${need} bytes of scratch, planned ${planned}`);
      }
      for (const [name, values] of Object.entries(want)) {
        const trouble = difference(values, got[name]!, toleranceOf(op, definition, shape));
        if (trouble) troubles.push(`${describeShape(shape)}: ${name}: ${trouble}`);
      }
    } catch (error) {
      troubles.push(`${describeShape(shape)}: ${(error as Error).message}`);
    }
  }
  return { op, cases, elsewhere: productsElsewhere(gpu) - before, troubles };
}

const gpu = openGpu();
gpu.useCublasLt(LEAST);
const words = process.argv.slice(2).filter((word) => !word.startsWith('--'));
for (const op of Object.keys(opTables) as OpName[]) {
  if (words.length > 0 && !words.some((word) => op.toLowerCase().includes(word.toLowerCase()))) continue;
  console.log(JSON.stringify(await check(gpu, op)));
}
