// SPDX-License-Identifier: Apache-2.0
// A pickle reader that executes nothing. Python's format is a program for a stack machine that may call any function; here a
// name is only ever looked up in the table of the caller, and everything that is not in it ends the reading. Knows the
// instructions that torch.save uses (protocols 2 to 4), no torch. Memory is bounded by the length of the pickle: each
// instruction pushes at most one value. Run its tests: `npm test -- checkpoints/torch`.
import { UserError } from '../errors.js';
import { decodeUtf8 } from './files.js';

/** null, booleans, numbers, bigints beyond 2⁵³, texts, bytes, arrays (lists and tuples), Maps (dicts), and what `call` gives. */
export type PickleValue = unknown;

export interface PickleTypes {
  /** A function or class by its Python name; undefined refuses it. It is called by the pickle with positional arguments. */
  resolve(name: string): PickleFunction | undefined;
  /** What stands for an object that is stored outside the pickle. */
  persistent(id: PickleValue): PickleValue;
}

export interface PickleFunction {
  call(...args: PickleValue[]): PickleValue;
}

/** Reads the pickle at the beginning of `bytes`; gives its value and where it ends. @throws UserError */
export function readPickle(bytes: Uint8Array, types: PickleTypes, where: string): { value: PickleValue; end: number } {
  const machine = new Machine(bytes, types, where);
  return { value: machine.run(), end: machine.position };
}

class Machine {
  position = 0;
  readonly view: DataView;
  readonly #bytes: Uint8Array;
  readonly #types: PickleTypes;
  readonly #where: string;
  readonly #stack: unknown[] = [];
  readonly #memo = new Map<number, unknown>();

  constructor(bytes: Uint8Array, types: PickleTypes, where: string) {
    this.#bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#types = types;
    this.#where = where;
  }

  run(): PickleValue {
    for (;;) {
      const opcode = this.byte();
      if (opcode === STOP) return this.pop();
      const instruction = INSTRUCTIONS[opcode];
      if (!instruction) throw this.error('an instruction that files of tensors need', `0x${opcode.toString(16)}`);
      instruction(this);
    }
  }

  push(value: unknown): void {
    this.#stack.push(value);
  }

  top(): unknown {
    const value = this.#stack.at(-1);
    if (value === undefined || value === MARK) throw this.error('a value on the stack', 'none');
    return value;
  }

  pop(): unknown {
    const value = this.top();
    this.#stack.pop();
    return value;
  }

  /** The last `count` values, in the order they were pushed. */
  popTuple(count: number): unknown[] {
    const values = Array.from({ length: count }, () => this.pop());
    return values.reverse();
  }

  popToMark(): unknown[] {
    const mark = this.#stack.lastIndexOf(MARK);
    if (mark < 0) throw this.error('a mark on the stack', 'none');
    return this.#stack.splice(mark).slice(1);
  }

  append(values: unknown[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.error('a list to append to', 'something else');
    for (const value of values) list.push(value);
  }

  setItems(pairs: unknown[]): void {
    const map = this.top();
    if (!(map instanceof Map) || pairs.length % 2 !== 0) throw this.error('a dict to add pairs to', 'something else');
    for (let i = 0; i < pairs.length; i += 2) map.set(pairs[i], pairs[i + 1]);
  }

  remember(index = this.#memo.size): void {
    this.#memo.set(index, this.top());
  }

  recall(index: number): void {
    if (!this.#memo.has(index)) throw this.error(`a remembered value ${index}`, 'none');
    this.push(this.#memo.get(index));
  }

  resolve(module: unknown, name: unknown): void {
    if (typeof module !== 'string' || typeof name !== 'string')
      throw this.error('the name of a function', 'something else');
    const path = `${module}.${name}`;
    const target = this.#types.resolve(path);
    if (!target) {
      throw new UserError({
        expected: 'a pickle of tensors and containers',
        found: `a call for ${path.slice(0, 100)}`,
        where: this.#where,
        remedy: 'torch would run that code while loading; it is not read here: get the weights as safetensors',
      });
    }
    this.push(new Callee(path, target));
  }

  reduce(): void {
    const args = this.pop();
    const callee = this.pop();
    if (!(callee instanceof Callee) || !Array.isArray(args) || args.length > MAX_ARGUMENTS) {
      throw this.error('a known function and its arguments', 'something else');
    }
    this.push(callee.target.call(...args));
  }

  persistent(): void {
    this.push(this.#types.persistent(this.pop()));
  }

  /** Where the next `count` bytes are; moves behind them. */
  take(count: number): number {
    const at = this.position;
    if (count > this.#bytes.length - at) throw this.error(`${count} more bytes`, 'the end');
    this.position = at + count;
    return at;
  }

  byte(): number {
    return this.view.getUint8(this.take(1));
  }

  uint32(): number {
    return this.view.getUint32(this.take(4), true);
  }

  slice(count: number): Uint8Array {
    const at = this.take(count);
    return this.#bytes.subarray(at, at + count);
  }

  text(count: number): string {
    return decodeUtf8(this.slice(count), 'a text of a pickle', this.#where);
  }

  /** A signed little-endian integer of up to 255 bytes. */
  long(count: number): number | bigint {
    let value = 0n;
    for (const byte of this.slice(count).toReversed()) value = (value << 8n) | BigInt(byte);
    value = BigInt.asIntN(8 * count, value);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.position);
    if (end < 0) throw this.error('a name that ends', 'the end');
    const line = this.text(end - this.position);
    this.position = end + 1;
    return line;
  }

  error(expected: string, found: string): UserError {
    return new UserError({
      expected,
      found,
      where: `${this.#where}, byte ${this.position} of its pickle`,
      remedy: 'the file is damaged or no file of tensors: fetch it again, or get the weights as safetensors',
    });
  }
}

/** The functions that tensors need take seven at most. */
const MAX_ARGUMENTS = 16;

/** What MARK pushes. */
const MARK = Symbol('mark');
const STOP = 0x2e;

/** What each instruction does, by its code. The names are those of Python's pickletools. */
const INSTRUCTIONS: Readonly<Record<number, (m: Machine) => void>> = {
  128: (m) => m.take(1), // PROTO
  149: (m) => m.take(8), // FRAME
  40: (m) => m.push(MARK), // MARK
  48: (m) => m.pop(), // POP
  49: (m) => m.popToMark(), // POP_MARK
  78: (m) => m.push(null), // NONE
  136: (m) => m.push(true), // NEWTRUE
  137: (m) => m.push(false), // NEWFALSE
  74: (m) => m.push(m.view.getInt32(m.take(4), true)), // BININT
  75: (m) => m.push(m.byte()), // BININT1
  77: (m) => m.push(m.view.getUint16(m.take(2), true)), // BININT2
  138: (m) => m.push(m.long(m.byte())), // LONG1
  71: (m) => m.push(m.view.getFloat64(m.take(8), false)), // BINFLOAT
  88: (m) => m.push(m.text(m.uint32())), // BINUNICODE
  140: (m) => m.push(m.text(m.byte())), // SHORT_BINUNICODE
  84: (m) => m.push(m.text(m.uint32())), // BINSTRING
  85: (m) => m.push(m.text(m.byte())), // SHORT_BINSTRING
  66: (m) => m.push(m.slice(m.uint32())), // BINBYTES
  67: (m) => m.push(m.slice(m.byte())), // SHORT_BINBYTES
  125: (m) => m.push(new Map()), // EMPTY_DICT
  93: (m) => m.push([]), // EMPTY_LIST
  41: (m) => m.push([]), // EMPTY_TUPLE
  116: (m) => m.push(m.popToMark()), // TUPLE
  133: (m) => m.push(m.popTuple(1)), // TUPLE1
  134: (m) => m.push(m.popTuple(2)), // TUPLE2
  135: (m) => m.push(m.popTuple(3)), // TUPLE3
  97: (m) => m.append(m.popTuple(1)), // APPEND
  101: (m) => m.append(m.popToMark()), // APPENDS
  115: (m) => m.setItems(m.popTuple(2)), // SETITEM
  117: (m) => m.setItems(m.popToMark()), // SETITEMS
  113: (m) => m.remember(m.byte()), // BINPUT
  114: (m) => m.remember(m.uint32()), // LONG_BINPUT
  148: (m) => m.remember(), // MEMOIZE
  104: (m) => m.recall(m.byte()), // BINGET
  106: (m) => m.recall(m.uint32()), // LONG_BINGET
  99: (m) => m.resolve(m.line(), m.line()), // GLOBAL
  147: (m) => m.resolve(...(m.popTuple(2) as [unknown, unknown])), // STACK_GLOBAL
  82: (m) => m.reduce(), // REDUCE
  98: (m) => m.pop(), // BUILD sets attributes of the object below: nothing that a tensor or a dict of them needs
  81: (m) => m.persistent(), // BINPERSID
};

/** A resolved name on the stack: only REDUCE gives it effect, and values never turn into one. */
class Callee {
  readonly path: string;
  readonly target: PickleFunction;

  constructor(path: string, target: PickleFunction) {
    this.path = path;
    this.target = target;
  }
}

/** The Python name of a class or function that stands as a value, as storage types do; undefined for anything else. */
export function nameOf(value: PickleValue): string | undefined {
  return value instanceof Callee ? value.path : undefined;
}
