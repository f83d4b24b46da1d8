// SPDX-License-Identifier: Apache-2.0
// Where a record stands in its file, and what is said of a record that could not be read. Printed, a place is what an error
// shows: line and byte where the file is text, else the number of the row.
import { UserError } from '../../errors.js';

export class Place {
  constructor(
    readonly path: string,
    /** Which record of its file, from 0; those that could not be read count too. */
    readonly position: number,
    /** In a text file: the line, from 1, and the first byte, from 0 (of the unpacked text, where it is compressed). */
    readonly text?: { line: number; byte: number },
  ) {}

  toString(): string {
    return `${this.path}, ${this.text ? `${this.short}, byte ${this.text.byte}` : this.short}`;
  }

  /** Within its file. */
  get short(): string {
    return this.text ? `line ${this.text.line}` : `row ${this.position + 1}`;
  }
}

/** A record's value, unchecked, and where it stands. */
export interface RawRecord {
  value: unknown;
  place: Place;
  /** Of its text, in a text file that is not compressed: with the place, enough to read it again by itself. */
  bytes?: number;
}

/** Records that could not be read: `count` of them, as far as that can be told. */
export type OnBad = (fault: UserError, count: number) => void;

/** Stands for what could not be read. */
export const BAD = Symbol('a bad record');

/** What `read` gives, or BAD where it ended in a fault that `onBad` took. */
export function attempt<Value>(read: () => Value, onBad: OnBad | undefined): Value | typeof BAD {
  try {
    return read();
  } catch (fault) {
    if (!onBad || !(fault instanceof UserError)) throw fault;
    onBad(fault, 1);
    return BAD;
  }
}
