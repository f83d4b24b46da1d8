// SPDX-License-Identifier: Apache-2.0
// What Arrow messages say of themselves (format/Message.fbs, Schema.fbs and File.fbs of Apache Arrow), as plain data. What cannot
// be read as a value is refused by its name. Knows nothing of bodies; their sizes are checked where they are read.
// Everything throws plain errors: the reader of the file says where.
import { FlatTable } from './flatbuffer.js';

export type ArrowType =
  | { kind: 'null' | 'bool' | 'struct' | 'map' }
  /** Dates and times too, as the numbers that they are. */
  | { kind: 'int'; bytes: 1 | 2 | 4 | 8; signed: boolean }
  | { kind: 'float'; bytes: 2 | 4 | 8 }
  | { kind: 'decimal'; bytes: 4 | 8 | 16 | 32; scale: number }
  | { kind: 'utf8' | 'binary' | 'list'; large: boolean }
  | { kind: 'utf8-view' | 'binary-view' }
  | { kind: 'fixed-binary'; bytes: number }
  | { kind: 'fixed-list'; length: number };

export interface ArrowField {
  name: string;
  type: ArrowType;
  children: ArrowField[];
  /** Where batches hold places in a dictionary, whose values are of `type`. */
  dictionary?: { id: bigint; index: ArrowType & { kind: 'int' } };
}

export interface BatchHeader {
  rows: number;
  nodes: { length: number; nulls: number }[];
  buffers: { offset: number; bytes: number }[];
  codec?: 'lz4' | 'zstd';
  /** How many buffers of text each column of views has. */
  viewBuffers: number[];
}

export type ArrowHeader =
  | { kind: 'schema'; fields: ArrowField[] }
  | { kind: 'dictionary'; id: bigint; batch: BatchHeader; delta: boolean }
  | { kind: 'batch'; batch: BatchHeader };

export type ArrowMessage = ArrowHeader & { bodyBytes: number };

export interface ArrowFooter {
  fields: ArrowField[];
  /** Where messages begin. */
  dictionaries: number[];
  batches: number[];
}

/** Tables may be shared: a kilobyte of them can describe more columns than there are atoms. */
const MAX_FIELDS = 10_000;
const MAX_DEPTH = 32;
/** More digits than numbers of 32 bytes have. */
const MAX_SCALE = 100;

/** The versions V4 and V5, which differ in unions only. */
const VERSIONS = [3, 4];

export function readMessage(metadata: Uint8Array): ArrowMessage {
  const message = FlatTable.root(metadata);
  checkVersion(message.int16(0));
  const header = message.table(2);
  if (!header) throw new Error('a message without a header');
  return { ...readHeader(message.int8(1), header), bodyBytes: size(message.int64(3), 'bytes of a body') };
}

function readHeader(kind: number, header: FlatTable): ArrowHeader {
  switch (kind) {
    case 1:
      return { kind: 'schema', fields: readSchema(header) };
    case 2: {
      const batch = header.table(1);
      if (!batch) throw new Error('a dictionary without values');
      return { kind: 'dictionary', id: header.int64(0), batch: readBatch(batch), delta: header.int8(2) !== 0 };
    }
    case 3:
      return { kind: 'batch', batch: readBatch(header) };
    default:
      throw new Error(`a message of kind ${kind}`);
  }
}

export function readFooter(bytes: Uint8Array): ArrowFooter {
  const footer = FlatTable.root(bytes);
  checkVersion(footer.int16(0));
  const schema = footer.table(1);
  if (!schema) throw new Error('no schema');
  const block = (view: DataView, at: number) => size(view.getBigInt64(at, true), 'as the place of a batch');
  return {
    fields: readSchema(schema),
    dictionaries: footer.structs(2, 24, block),
    batches: footer.structs(3, 24, block),
  };
}

function checkVersion(version: number): void {
  if (!VERSIONS.includes(version)) throw new Error(`version ${version + 1} of the format`);
}

function readBatch(batch: FlatTable): BatchHeader {
  const compression = batch.table(3);
  const codec = compression && (['lz4', 'zstd'] as const)[compression.int8(0)];
  if (compression && (!codec || compression.int8(1) !== 0)) throw new Error('an unknown compression');
  const pair = (view: DataView, at: number) => [view.getBigInt64(at, true), view.getBigInt64(at + 8, true)] as const;
  return {
    rows: size(batch.int64(0), 'rows'),
    nodes: batch
      .structs(1, 16, pair)
      .map(([length, nulls]) => ({ length: size(length, 'values'), nulls: size(nulls, 'nulls') })),
    buffers: batch.structs(2, 16, pair).map(([offset, bytes]) => ({
      offset: size(offset, 'as the place of a buffer'),
      bytes: size(bytes, 'bytes of a buffer'),
    })),
    ...(codec && { codec }),
    viewBuffers: batch.structs(4, 8, (view, at) => size(view.getBigInt64(at, true), 'buffers')),
  };
}

function size(value: bigint, what: string): number {
  if (value < 0n || value > Number.MAX_SAFE_INTEGER) throw new Error(`${value} ${what}`);
  return Number(value);
}

function readSchema(schema: FlatTable): ArrowField[] {
  if (schema.int16(0) !== 0) throw new Error('numbers with their highest byte first');
  let count = 0;
  const readField = (field: FlatTable, depth: number): ArrowField => {
    if (++count > MAX_FIELDS || depth > MAX_DEPTH)
      throw new Error(
        `more than ${count > MAX_FIELDS ? `${MAX_FIELDS} columns` : `${MAX_DEPTH} columns within each other`}`,
      );
    const name = field.text(0);
    const type = readType(field, name);
    const children = field.tables(5).map((child) => readField(child, depth + 1));
    const encoding = field.table(4);
    checkChildren(name, type, children, encoding !== undefined);
    return { name, type, children, ...(encoding && { dictionary: readEncoding(encoding, name) }) };
  };
  return schema.tables(1).map((field) => readField(field, 1));
}

function readEncoding(encoding: FlatTable, name: string) {
  const indices = encoding.table(1);
  const index = indices ? intType(indices.int32(0), indices.int8(1) !== 0, name) : intType(32, true, name);
  return { id: encoding.int64(0), index };
}

function checkChildren(name: string, type: ArrowType, children: ArrowField[], encoded: boolean): void {
  // Dictionaries of dictionaries could hold each other's values many times over; none have been met.
  if (encoded && children.length > 0) throw refused(name, 'a dictionary of nested values');
  const wanted = CHILDREN[type.kind];
  if (wanted !== 'any' && children.length !== (wanted ?? 0))
    throw new Error(`${children.length} columns within '${name}'`);
  if (type.kind === 'map' && (children[0]!.type.kind !== 'struct' || children[0]!.children.length !== 2))
    throw new Error(`no keys and values in '${name}'`);
}

const CHILDREN: Partial<Record<ArrowType['kind'], number | 'any'>> = {
  struct: 'any',
  list: 1,
  'fixed-list': 1,
  map: 1,
};

const refused = (name: string, what: string) => new Error(`the column '${name}' of a kind that is not read: ${what}`);

/** Kinds of columns that are no text, number, list or structure, by their number. */
const UNREAD: Record<number, string> = {
  11: 'interval',
  14: 'union',
  22: 'run-end encoded',
  25: 'list view',
  26: 'large list view',
};

function readType(field: FlatTable, name: string): ArrowType {
  const kind = field.int8(2);
  const type = field.table(3);
  if (!type) throw new Error(`no type of '${name}'`);
  switch (kind) {
    case 1:
      return { kind: 'null' };
    case 2:
      return intType(type.int32(0), type.int8(1) !== 0, name);
    case 3:
      return { kind: 'float', bytes: oneOf([2, 4, 8] as const, [2, 4, 8][type.int16(0)], name) };
    case 4:
      return { kind: 'binary', large: false };
    case 5:
      return { kind: 'utf8', large: false };
    case 6:
      return { kind: 'bool' };
    case 7:
      return decimalType(type, name);
    case 8:
      return intType(type.int16(0, 1) === 0 ? 32 : 64, true, name); // days or milliseconds
    case 9:
      return intType(type.int32(1, 32), true, name);
    case 10: // a time stamp
    case 18: // a duration
      return intType(64, true, name);
    case 12:
      return { kind: 'list', large: false };
    case 13:
      return { kind: 'struct' };
    case 15:
      return { kind: 'fixed-binary', bytes: size(BigInt(type.int32(0)), `bytes in '${name}'`) };
    case 16:
      return { kind: 'fixed-list', length: size(BigInt(type.int32(0)), `values in '${name}'`) };
    case 17:
      return { kind: 'map' };
    case 19:
      return { kind: 'binary', large: true };
    case 20:
      return { kind: 'utf8', large: true };
    case 21:
      return { kind: 'list', large: true };
    case 23:
      return { kind: 'binary-view' };
    case 24:
      return { kind: 'utf8-view' };
    default:
      throw refused(name, UNREAD[kind] ?? `number ${kind}`);
  }
}

function intType(bits: number, signed: boolean, name: string): ArrowType & { kind: 'int' } {
  return { kind: 'int', bytes: oneOf([1, 2, 4, 8] as const, bits / 8, name), signed };
}

function decimalType(type: FlatTable, name: string): ArrowType {
  const scale = type.int32(1);
  if (Math.abs(scale) > MAX_SCALE) throw new Error(`numbers of ${scale} decimal places in '${name}'`);
  return { kind: 'decimal', bytes: oneOf([4, 8, 16, 32] as const, type.int32(2, 128) / 8, name), scale };
}

function oneOf<Value>(known: readonly Value[], value: unknown, name: string): Value {
  if (!known.includes(value as Value)) throw new Error(`numbers of an unknown size in '${name}'`);
  return value as Value;
}
