// SPDX-License-Identifier: Apache-2.0
// Memory kept for reuse, by exact size. The native device keeps real buffers in it, the plan device keeps counts, so that a
// planned peak counts what the real one holds.

export class BufferPool<Buffer extends { readonly byteLength: number }> {
  readonly #free = new Map<number, Buffer[]>();
  /** Bytes taken and not given back, and bytes held for reuse. */
  used = 0;
  held = 0;
  /** Largest sum of both so far. */
  peak = 0;

  constructor(
    private readonly create: (bytes: number) => Buffer,
    private readonly destroy: (buffer: Buffer) => void,
  ) {}

  take(bytes: number): Buffer {
    const reused = this.#free.get(bytes)?.pop();
    if (reused) this.held -= bytes;
    const buffer = reused ?? this.create(bytes);
    this.used += bytes;
    this.peak = Math.max(this.peak, this.used + this.held);
    return buffer;
  }

  give(buffer: Buffer): void {
    const bytes = buffer.byteLength;
    this.used -= bytes;
    this.held += bytes;
    const list = this.#free.get(bytes);
    if (list) list.push(buffer);
    else this.#free.set(bytes, [buffer]);
  }

  /** Destroys what is held for reuse. */
  trim(): void {
    for (const list of this.#free.values()) for (const buffer of list) this.destroy(buffer);
    this.#free.clear();
    this.held = 0;
  }
}
