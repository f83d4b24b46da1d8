// SPDX-License-Identifier: Apache-2.0
// Makes torch files byte by byte for tests: pickles from instructions, and archives of stored entries, well-formed or not.

const uint32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const uint16 = (value: number) => uint32(value).subarray(0, 2);
const uint64 = (value: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
};

/** A program of the pickle machine from parts: instructions by their character, and bytes. */
export const code = (...parts: (string | Uint8Array)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));

export const text = (value: string) => code('X', uint32(Buffer.byteLength(value)), Buffer.from(value));
export const int = (value: number) => code('J', uint32(value >>> 0));
export const tuple = (...values: Uint8Array[]) => code('(', ...values, 't');
export const dict = (...pairs: Uint8Array[]) => code('}(', ...pairs, 'u');
export const name = (path: string) =>
  code(`c${path.slice(0, path.lastIndexOf('.'))}\n${path.slice(path.lastIndexOf('.') + 1)}\n`);
export const call = (path: string, ...args: Uint8Array[]) => code(name(path), tuple(...args), 'R');
export const program = (value: Uint8Array) => code('\x80\x02', value, '.');

export const storage = (key: string, type: string, elements: number, ...more: Uint8Array[]) =>
  code(tuple(text('storage'), name(type), text(key), text('cpu'), int(elements), ...more), 'Q');

export const tensor = (of: Uint8Array, offset: number, shape: number[], strides: number[], ...more: Uint8Array[]) =>
  call(
    'torch._utils._rebuild_tensor_v2',
    of,
    int(offset),
    tuple(...shape.map(int)),
    tuple(...strides.map(int)),
    code('\x89'),
    call('collections.OrderedDict'),
    ...more,
  );

export interface EntryOptions {
  method?: number;
  flags?: number;
  /** Sizes and positions in the zip64 extra field instead of their own. */
  zip64?: boolean;
  /** What the directory claims as size. */
  bytes?: number;
  /** What the directory claims as checksum; 0: not counted. */
  crc?: number;
}

/** An archive of entries as they are. */
export function zip(entries: [name: string, contents: Uint8Array, options?: EntryOptions][], zip64End = false): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let position = 0;
  for (const [entryName, contents, options = {}] of entries) {
    const { method = 0, flags = 0, zip64 = false, bytes = contents.length, crc = 0 } = options;
    const nameBytes = Buffer.from(entryName);
    const padding = Buffer.alloc(5); // an extra field in the local header alone, as torch has it for alignment
    const local = code('PK\x03\x04', uint16(20), uint16(flags), uint16(method), uint32(0), uint32(0));
    parts.push(
      code(
        local,
        uint32(contents.length),
        uint32(contents.length),
        uint16(nameBytes.length),
        uint16(5),
        nameBytes,
        padding,
        contents,
      ),
    );
    const full = 0xffffffff;
    const extra = zip64
      ? code(uint16(1), uint16(24), uint64(BigInt(bytes)), uint64(BigInt(bytes)), uint64(BigInt(position)))
      : code();
    directory.push(
      code(
        ...['PK\x01\x02', uint16(20), uint16(20), uint16(flags), uint16(method), uint32(0), uint32(crc)],
        ...[uint32(zip64 ? full : bytes), uint32(zip64 ? full : bytes), uint16(nameBytes.length), uint16(extra.length)],
        ...[uint16(0), uint16(0), uint16(0), uint32(0), uint32(zip64 ? full : position), nameBytes, extra],
      ),
    );
    position += parts.at(-1)!.length;
  }
  const listing = Buffer.concat(directory);
  const end64 = code(
    ...['PK\x06\x06', uint64(44n), uint16(45), uint16(45), uint32(0), uint32(0), uint64(BigInt(entries.length))],
    ...[uint64(BigInt(entries.length)), uint64(BigInt(listing.length)), uint64(BigInt(position))],
    ...['PK\x06\x07', uint32(0), uint64(BigInt(position + listing.length)), uint32(1)],
  );
  const counted = zip64End ? [uint16(0xffff), uint16(0xffff), uint32(0xffffffff), uint32(0xffffffff)] : undefined;
  const plain = [uint16(entries.length), uint16(entries.length), uint32(listing.length), uint32(position)];
  return code(
    ...parts,
    listing,
    ...(zip64End ? [end64] : []),
    'PK\x05\x06',
    uint32(0),
    ...(counted ?? plain),
    uint16(0),
  );
}

/** What torch.save writes for that pickled value and these storages. */
export function archive(
  value: Uint8Array,
  storages: Record<string, Uint8Array> = {},
  ...more: [string, Uint8Array][]
): Buffer {
  const data = Object.entries(storages).map(([key, bytes]) => [`m/data/${key}`, bytes] as [string, Uint8Array]);
  return zip([['m/data.pkl', program(value)], ['m/byteorder', Buffer.from('little')], ...data, ...more]);
}

/** The same in the format before zip archives. */
export function legacy(
  value: Uint8Array,
  storages: [key: string, elements: number, bytes: Uint8Array][],
  magic = '6cfc9c46f9206aa85019',
): Buffer {
  const keys = code(']', '(', ...storages.map(([key]) => text(key)), 'e');
  const data = storages.flatMap(([, elements, bytes]) => [uint64(BigInt(elements)), Buffer.from(bytes)]);
  const header = [code('\x8a\x0a', Buffer.from(magic, 'hex')), int(1001), dict(text('little_endian'), code('\x88'))];
  return code(...[...header, value, keys].map(program), ...data);
}

export const bytesOf = (values: ArrayBufferView) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
