// SPDX-License-Identifier: Apache-2.0
// Reads what nvcc made of a kernel: the instructions of a cubin (ELF), named and sorted by the unit that runs them, and the
// path on which a kernel spends its time. Needs no tool of the toolkit, and decodes no more than it uses: an instruction's
// operation, width and branch target. Knows nothing of our kernels.
//
// Sources: an instruction of sm_70 and later has 128 bits; bits 0–8 are the operation, 9–11 the form of its operands, 12–15
// the guard predicate, 73–75 the width of an access, 34–81 the distance of a branch (from
// sm_90 on its upper part: the lower 8 bits are 16–23). Names and numbers are those that
// NVIDIA's disassembler prints, as collected by CuAssembler (sm_75 … sm_86) and Mesa's NAK compiler (also sm_90).

/** Units of a multiprocessor, and the operations that each runs. */
const OPERATIONS = {
  tensor: { HMMA: 0x3c, IMMA: 0x37, DMMA: 0x3f },
  fp32: { FMUL: 0x20, FADD: 0x21, FFMA: 0x23 },
  imad: { IMAD: 0x24, 'IMAD.WIDE': 0x25, IDP: 0x26, 'IMAD.HI': 0x27 },
  fp16: { HADD2: 0x30, HFMA2: 0x31, HMUL2: 0x32, HSET2: 0x33, HSETP2: 0x34, 'HFMA2.MMA': 0x35 },
  fp64: { DMUL: 0x28, DADD: 0x29, DSETP: 0x2a, DFMA: 0x2b },
  alu: {
    MOV: 0x02,
    P2R: 0x03,
    R2P: 0x04,
    SEL: 0x07,
    FSEL: 0x08,
    FMNMX: 0x09,
    FSET: 0x0a,
    FSETP: 0x0b,
    ISETP: 0x0c,
    IADD3: 0x10,
    LEA: 0x11,
    LOP3: 0x12,
    IABS: 0x13,
    PRMT: 0x16,
    IMNMX: 0x17,
    SHF: 0x19,
    SGXT: 0x1a,
    BMSK: 0x1b,
    PLOP3: 0x1c,
    VIADD: 0x36,
    F2FP: 0x3e,
    HMNMX2: 0x40,
    I2FP: 0x45,
    VIADDMNMX: 0x46,
    VIMNMX: 0x48,
    VOTE: 0x06,
    FCHK: 0x102,
  },
  xu: {
    FLO: 0x100,
    BREV: 0x101,
    F2F: 0x104,
    F2I: 0x105,
    I2F: 0x106,
    FRND: 0x107,
    MUFU: 0x108,
    POPC: 0x109,
    'F2F.64': 0x110,
    'F2I.64': 0x111,
    'I2F.64': 0x112,
    'FRND.64': 0x113,
    REDUX: 0x1c4,
  },
  shared: { LDSM: 0x3b, LDS: 0x184, STS: 0x188, SHFL: 0x189, ATOMS: 0x18c, 'ATOMS.CAS': 0x18d, MATCH: 0x1a1 },
  global: {
    LD: 0x180,
    LDG: 0x181,
    ST: 0x185,
    STG: 0x186,
    LDGSTS: 0x1ae,
    ATOM: 0x18a,
    'ATOM.CAS': 0x18b,
    RED: 0x18e,
    ATOMG: 0x1a8,
    'ATOMG.CAS': 0x1a9,
  },
  local: { LDL: 0x183, STL: 0x187 },
  uniform: {
    UMOV: 0x82,
    UP2UR: 0x83,
    VOTEU: 0x86,
    USEL: 0x87,
    UISETP: 0x8c,
    UIADD3: 0x90,
    ULEA: 0x91,
    ULOP3: 0x92,
    UPRMT: 0x96,
    'UIADD3.64': 0x97,
    USHF: 0x99,
    USGXT: 0x9a,
    UPLOP3: 0x9c,
    UIMAD: 0xa4,
    'UIMAD.WIDE': 0xa5,
    ULDC: 0xb9,
    UFLO: 0xbd,
    UPOPC: 0xbf,
    R2UR: 0x1c2,
    'R2UR.90': 0xca,
    S2UR: 0x1c3,
    LDC: 0x182,
  },
  control: {
    CS2R: 0x05,
    NOP: 0x118,
    S2R: 0x119,
    DEPBAR: 0x11a,
    B2R: 0x11c,
    BAR: 0x11d,
    BSYNC: 0x141,
    BREAK: 0x142,
    'CALL.ABS': 0x143,
    CALL: 0x144,
    BSSY: 0x145,
    YIELD: 0x146,
    BRA: 0x147,
    WARPSYNC: 0x148,
    BRX: 0x149,
    EXIT: 0x14d,
    LEPC: 0x14e,
    RET: 0x150,
    BMOV: 0x155,
    'BMOV.CLEAR': 0x156,
    BPT: 0x15c,
    NANOSLEEP: 0x15d,
    LDGDEPBAR: 0x1af,
    MEMBAR: 0x192,
    CCTL: 0x18f,
    ERRBAR: 0x1ab,
    ENDCOLLECTIVE: 0x11b,
  },
};
const BY_NUMBER = new Map();
for (const [unit, operations] of Object.entries(OPERATIONS))
  for (const [name, number] of Object.entries(operations)) BY_NUMBER.set(number, { name, unit });

const ACCESS_BYTES = [1, 1, 2, 2, 4, 8, 16, 0]; // u8 s8 u16 s16 32 64 128
const INSTRUCTION_BYTES = 16;

function instructionAt(view, offset, index, architecture) {
  const low = view.getBigUint64(offset, true);
  const high = view.getBigUint64(offset + 8, true);
  const number = Number(low & 0x1ffn);
  const { name, unit } = BY_NUMBER.get(number) ?? { name: `0x${number.toString(16)}`, unit: 'unknown' };
  const guarded = (Number(low >> 12n) & 15) !== 7;
  let bytes = 0;
  if (name === 'LDSM') bytes = 4 << (Number(high >> 8n) & 3);
  else if (name !== 'SHFL' && (unit === 'shared' || unit === 'global')) bytes = ACCESS_BYTES[Number(high >> 9n) & 7];
  let target;
  if (name === 'BRA') {
    const field = BigInt.asIntN(48, (low >> 34n) | ((high & 0x3ffffn) << 30n));
    const words = architecture >= 90 ? (field << 8n) | ((low >> 16n) & 0xffn) : field; // of 4 bytes
    target = index + 1 + (4 * Number(words)) / INSTRUCTION_BYTES;
    if (!Number.isInteger(target) || target < 0) throw new Error(`a branch of instruction ${index} cannot be followed`);
  }
  // A branch may also hang on a second predicate, bits 87–89.
  const conditional = guarded || (name === 'BRA' && (Number(high >> 23n) & 7) !== 7);
  return { name, unit, bytes, conditional, target };
}

function cString(bytes, offset) {
  return bytes.subarray(offset, bytes.indexOf(0, offset)).toString('latin1');
}

function sectionsOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, false) !== 0x7f454c46) throw new Error('expected an ELF file (a cubin)');
  const table = Number(view.getBigUint64(0x28, true));
  const count = view.getUint16(0x3c, true);
  const at = (i) => {
    const start = table + 64 * i;
    return {
      name: view.getUint32(start, true),
      offset: Number(view.getBigUint64(start + 24, true)),
      size: Number(view.getBigUint64(start + 32, true)),
    };
  };
  const names = at(view.getUint16(0x3e, true)).offset;
  return Array.from({ length: count }, (_, i) => at(i)).map((section) => ({
    ...section,
    name: cString(bytes, names + section.name),
  }));
}

/** The most threads of a block that the kernel was compiled for (attribute 5 of its .nv.info), 0 where none is stated. */
function maxThreads(bytes, section) {
  const end = section.offset + section.size;
  for (let p = section.offset; p + 4 <= end; ) {
    const size = bytes.readUInt16LE(p + 2);
    if (bytes[p] === 4 && bytes[p + 1] === 5)
      return bytes.readUInt32LE(p + 4) * bytes.readUInt32LE(p + 8) * bytes.readUInt32LE(p + 12);
    p += 4 + (bytes[p] === 4 ? size : 0);
  }
  return 0;
}

/** The kernels of a cubin for an architecture (80, 89, 90): { name, threads, instructions }. */
export function kernelsOf(bytes, architecture) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sections = sectionsOf(bytes);
  const found = [];
  for (const { name, offset, size } of sections) {
    if (!name.startsWith('.text.')) continue;
    const kernel = name.slice('.text.'.length);
    const info = sections.find((section) => section.name === `.nv.info.${kernel}`);
    const instructions = Array.from({ length: size / INSTRUCTION_BYTES }, (_, i) =>
      instructionAt(view, offset + i * INSTRUCTION_BYTES, i, architecture),
    );
    found.push({ name: kernel, threads: info ? maxThreads(bytes, info) : 0, instructions });
  }
  return found;
}

/**
 * Products before bytes of global before bytes of shared memory before arithmetic on floats; the rest is what it costs. A call
 * (of a division's slow path) and a compare-and-swap (of a fault that is reported) are rare cases.
 */
const WEIGHTS = { tensor: 1e9, fp32: 50, fp16: 50, fp64: 50, xu: 50 };
const BYTE_WEIGHTS = { global: 1e4, shared: 1e2 };
const RARE = new Set(['CALL', 'ATOM.CAS', 'ATOMG.CAS']);
const FLOAT_CHOICES = new Set(['FSETP', 'FMNMX', 'FSEL']); // the units of integers run these
const weightOf = (instructions) =>
  instructions.reduce((sum, { unit, bytes, name }) => {
    const arithmetic = FLOAT_CHOICES.has(name) ? WEIGHTS.fp32 : (WEIGHTS[unit] ?? 0);
    return sum + arithmetic + bytes * (BYTE_WEIGHTS[unit] ?? 0) - (RARE.has(name) ? 1e6 : 1);
  }, 0);

/** Of two loops with as many products, the one that does more beside them takes longer, whatever it moves. */
function weightOfLoop(instructions) {
  const products = instructions.filter(({ unit }) => unit === 'tensor').length;
  return products > 0 ? products * WEIGHTS.tensor + instructions.length : weightOf(instructions);
}

function successors({ name, target, conditional }, index) {
  if (name === 'BRA') return conditional ? [index + 1, target] : [target];
  if ((name === 'EXIT' || name === 'RET' || name === 'BRX') && !conditional) return [];
  return [index + 1]; // a call returns
}

/**
 * The path from `first` to `last` (or to an exit) that weighs most. Of two that move the same bytes and compute the same it is
 * the shorter one: the other is the path for what is not aligned.
 */
function busiestPath(instructions, first, last) {
  const score = new Float64Array(last + 2).fill(Number.NEGATIVE_INFINITY);
  const next = new Int32Array(last + 2).fill(-1);
  for (let i = last; i >= first; i--) {
    const own = weightOf([instructions[i]]);
    const onward = successors(instructions[i], i).filter(
      (s) => s > i && s <= last && score[s] > Number.NEGATIVE_INFINITY,
    );
    if (i < last && onward.length === 0 && instructions[i].name !== 'EXIT') continue;
    score[i] = own;
    if (onward.length === 0) continue;
    next[i] = onward.reduce((a, b) => (score[b] > score[a] ? b : a));
    score[i] += score[next[i]];
  }
  const path = [];
  for (let i = first; i >= 0 && i <= last; i = next[i]) path.push(i);
  return { path };
}

function reachable(instructions) {
  const seen = new Set();
  const open = [0];
  while (open.length) {
    const i = open.pop();
    if (seen.has(i) || i >= instructions.length) continue;
    seen.add(i);
    open.push(...successors(instructions[i], i));
  }
  return seen;
}

/**
 * Where a kernel spends its time: { loop, path }. The loop whose own instructions, those of loops within it left out, weigh
 * most, or the whole way where no loop outweighs it.
 */
export function hotPath(instructions) {
  const seen = reachable(instructions);
  const loops = [...seen]
    .filter((i) => instructions[i].target !== undefined && instructions[i].target < i)
    .map((end) => ({ start: instructions[end].target, end }));
  const whole = busiestPath(instructions, 0, instructions.length - 1);
  let best = { loop: false, path: whole.path.map((i) => instructions[i]) };
  let most = weightOf(best.path) / 10; // a loop runs more often than once
  for (const loop of loops) {
    const within = loops.filter((other) => other !== loop && other.start >= loop.start && other.end <= loop.end);
    const { path } = busiestPath(instructions, loop.start, loop.end);
    const own = path.filter((i) => !within.some(({ start, end }) => i >= start && i <= end));
    const weight = weightOfLoop(own.map((i) => instructions[i]));
    if (weight <= most) continue;
    most = weight;
    best = { loop: true, path: path.map((i) => instructions[i]) };
  }
  return best;
}
