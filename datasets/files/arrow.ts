// SPDX-License-Identifier: Apache-2.0
// Records from Arrow files and streams. What the file says of itself is checked before anything is made of it, so that a damaged
// one ends in an error: `apache-arrow` loops without end over some of them. One batch is held at a time. Knows no rows.
import type { FileHandle } from 'node:fs/promises';
import { UserError } from '../../errors.js';
import { BatchBuffers, MAX_BATCH_BYTES, type UnpackZstd } from './arrow-buffers.js';
import { columnsOf, Dictionary } from './arrow-columns.js';
import { FILE_MAGIC, FILE_START, FILE_TAIL_BYTES, footerStart, frameOf, PREFIX_BYTES } from './arrow-frames.js';
import { type ArrowField, type ArrowMessage, readFooter, readMessage } from './arrow-metadata.js';
import { BAD, type OnBad, Place, type RawRecord } from './place.js';

/**
 * The rows of an Arrow file or stream, in order. A batch that cannot be read ends the file: where the next one begins stands
 * in it alone.
 */
export async function* readArrow(handle: FileHandle, path: string, onBad?: OnBad): AsyncGenerator<RawRecord> {
  let position = 0;
  const fault = (expected: string, cause: unknown) =>
    new UserError({
      expected,
      found: (cause as Error).message,
      where: path,
      remedy: 'the file is damaged or was not fully copied: fetch or write it again',
      cause,
    });
  try {
    for await (const { rows, read } of batchesOf(await ArrowSource.open(handle, path))) {
      for (let i = 0; i < rows; i++, position++) {
        const value = attemptRow(
          () => read(i),
          (cause) => fault(`text in row ${position + 1}`, cause),
          onBad,
        );
        if (value !== BAD) yield { value, place: new Place(path, position) };
      }
    }
  } catch (cause) {
    const ended = cause instanceof UserError ? cause : fault(`an Arrow file with a batch after row ${position}`, cause);
    if (!onBad) throw ended;
    onBad(ended, 0);
  }
}

function attemptRow(read: () => unknown, fault: (cause: unknown) => UserError, onBad: OnBad | undefined): unknown {
  try {
    return read();
  } catch (cause) {
    if (!onBad) throw fault(cause);
    onBad(fault(cause), 1);
    return BAD;
  }
}

/** Bytes by place, all within the file. */
class ArrowSource {
  private constructor(
    private readonly handle: FileHandle,
    private readonly path: string,
    readonly bytes: number,
  ) {}

  static async open(handle: FileHandle, path: string): Promise<ArrowSource> {
    return new ArrowSource(handle, path, (await handle.stat()).size);
  }

  /** In memory of their own, which begins where any number may. */
  async read(at: number, length: number): Promise<Uint8Array> {
    if (at + length > this.bytes)
      throw new Error(`the end of the file at byte ${this.bytes}, within ${length} bytes from ${at}`);
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      const { bytesRead } = await this.handle.read(bytes, filled, length - filled, at + filled);
      if (bytesRead === 0) throw new Error(`the end of the file at byte ${at + filled}`);
      filled += bytesRead;
    }
    return bytes;
  }

  /** The message at a place, and where it ends; undefined where the messages do. */
  async message(at: number): Promise<{ message: ArrowMessage; body: Uint8Array; end: number } | undefined> {
    if (at === this.bytes) return undefined;
    const prefix = await this.read(at, Math.min(PREFIX_BYTES, Math.max(4, this.bytes - at)));
    const frame = frameOf(prefix, this.bytes - at);
    if (!frame) return undefined;
    const message = readMessage(await this.read(at + frame.start, frame.end - frame.start));
    const body = at + frame.end;
    if (message.bodyBytes > MAX_BATCH_BYTES) throw this.tooLarge(message.bodyBytes);
    return { message, body: await this.read(body, message.bodyBytes), end: body + message.bodyBytes };
  }

  private tooLarge(bytes: number): UserError {
    return new UserError({
      expected: `batches of at most ${MAX_BATCH_BYTES >> 20} MiB, as one is held at a time`,
      found: `one of ${bytes} bytes`,
      where: this.path,
      remedy: 'write the file again in smaller batches; or it is damaged',
    });
  }
}

interface RowBatch {
  rows: number;
  read(index: number): unknown;
}

async function* batchesOf(source: ArrowSource): AsyncGenerator<RowBatch> {
  const head = Buffer.from(await source.read(0, FILE_MAGIC.length)).toString('latin1');
  if (head !== FILE_MAGIC) return yield* new ArrowReader(source).stream(0);
  const tail = await source.read(source.bytes - FILE_TAIL_BYTES, FILE_TAIL_BYTES);
  const footer = footerStart(tail, source.bytes);
  if (footer !== undefined) return yield* new ArrowReader(source).file(footer);
  // What was cut off has its batches up to there, as a stream has.
  yield* new ArrowReader(source).stream(FILE_START);
  throw new Error(`no ${FILE_MAGIC} at its end`);
}

class ArrowReader {
  private fields: ArrowField[] = [];
  private readonly dictionaries = new Map<bigint, Dictionary>();
  private unzstd: UnpackZstd | undefined;

  constructor(private readonly source: ArrowSource) {}

  async *stream(start: number): AsyncGenerator<RowBatch> {
    const first = await this.source.message(start);
    if (first?.message.kind !== 'schema') throw new Error('no schema');
    this.fields = first.message.fields;
    for (let at = first.end; ; ) {
      const next = await this.source.message(at);
      if (!next) return;
      const batch = await this.take(next.message, next.body);
      if (batch) yield batch;
      at = next.end;
    }
  }

  async *file(footerAt: number): AsyncGenerator<RowBatch> {
    const end = this.source.bytes - FILE_TAIL_BYTES;
    const { fields, dictionaries, batches } = readFooter(await this.source.read(footerAt, end - footerAt));
    this.fields = fields;
    for (const at of [...dictionaries, ...batches]) {
      const next = await this.source.message(at);
      if (!next) throw new Error(`no message at byte ${at}`);
      const batch = await this.take(next.message, next.body);
      if (batch) yield batch;
    }
  }

  /** The rows of a batch; a dictionary is kept for those that come. */
  private async take(message: ArrowMessage, body: Uint8Array): Promise<RowBatch | undefined> {
    if (message.kind === 'schema') throw new Error('a second schema');
    const { batch } = message;
    if (batch.codec === 'zstd') this.unzstd ??= (await import('fzstd')).decompress;
    const buffers = new BatchBuffers(batch, body, this.unzstd);
    if (message.kind === 'batch')
      return rowsOf(this.fields, columnsOf(this.fields, batch, buffers, this.dictionaries), batch.rows);
    const field = withDictionary(this.fields, message.id);
    if (!field) throw new Error(`dictionary ${message.id}, which no column has`);
    const { name, type, children } = field;
    const [column] = columnsOf([{ name, type, children }], batch, buffers);
    const known = message.delta ? this.dictionaries.get(message.id) : undefined;
    const dictionary = known ?? new Dictionary();
    dictionary.add(column!);
    this.dictionaries.set(message.id, dictionary);
    return undefined;
  }
}

function rowsOf(fields: readonly ArrowField[], columns: ReturnType<typeof columnsOf>, rows: number): RowBatch {
  const names = fields.map(({ name }) => name);
  return { rows, read: (i) => Object.fromEntries(names.map((name, c) => [name, columns[c]!.read(i)])) };
}

function withDictionary(fields: readonly ArrowField[], id: bigint): ArrowField | undefined {
  for (const field of fields) {
    const found = field.dictionary?.id === id ? field : withDictionary(field.children, id);
    if (found) return found;
  }
  return undefined;
}
