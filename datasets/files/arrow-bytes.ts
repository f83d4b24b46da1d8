// SPDX-License-Identifier: Apache-2.0
// An Arrow file in memory, by batches, as its columns' buffers: nothing is copied, and no library is loaded. For files of known
// columns, as ours are. Throws plain errors: the reader of the file says where.
import { BatchBuffers } from './arrow-buffers.js';
import { columnsOf } from './arrow-columns.js';
import { FILE_TAIL_BYTES, footerStart, frameOf, PREFIX_BYTES } from './arrow-frames.js';
import { type ArrowField, readFooter, readMessage } from './arrow-metadata.js';
import type { ColumnBuffers, ColumnType } from './columns.js';

export class ArrowBytes {
  private readonly fields: ArrowField[];
  /** Where batches begin. */
  private readonly places: number[];

  /** @throws Error where the bytes are no file of these columns */
  constructor(
    private readonly bytes: Uint8Array,
    columns: readonly ColumnType[],
  ) {
    const end = bytes.length - FILE_TAIL_BYTES;
    const start = end < 0 ? undefined : footerStart(bytes.subarray(end), bytes.length);
    if (start === undefined) throw new Error('no end of an Arrow file');
    const { fields, batches } = readFooter(bytes.subarray(start, end));
    const found = fields.map((field) => `${field.name}: ${typeName(field)}`).join(', ');
    const expected = columns.map(({ name, type }) => `${name}: ${type}`).join(', ');
    if (found !== expected) throw new Error(`the columns ${found}`);
    this.fields = fields;
    this.places = batches;
  }

  get batches(): number {
    return this.places.length;
  }

  /** The columns of a batch, checked to lie within it. */
  batch(index: number): { rows: number; columns: ColumnBuffers[] } {
    const bytes = this.bytes.subarray(this.places[index]);
    const frame = frameOf(bytes.subarray(0, PREFIX_BYTES), bytes.length);
    const message = frame && readMessage(bytes.subarray(frame.start, frame.end));
    if (message?.kind !== 'batch') throw new Error(`no batch ${index}`);
    const { batch, bodyBytes } = message;
    if (frame!.end + bodyBytes > bytes.length) throw new Error(`a body of ${bodyBytes} bytes in batch ${index}`);
    const body = bytes.subarray(frame!.end, frame!.end + bodyBytes);
    const columns = columnsOf(this.fields, batch, new BatchBuffers(batch, body));
    return { rows: batch.rows, columns: columns.map(({ raw }) => raw!) };
  }
}

function typeName({ type, children, dictionary }: ArrowField): string {
  if (dictionary) return 'a dictionary';
  switch (type.kind) {
    case 'int':
      return `${type.signed ? '' : 'u'}int${8 * type.bytes}`;
    case 'list':
      return `${typeName(children[0]!)}-${type.large ? 'large-' : ''}list`;
    default:
      return 'large' in type && type.large ? `large ${type.kind}` : type.kind;
  }
}
