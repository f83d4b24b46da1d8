// SPDX-License-Identifier: Apache-2.0
// SentencePiece's "identity" normalisation: spaces become ▁, a ▁ goes in front, spaces may be squeezed. Keeps for every unit
// of the result its offset in the text. Characters are left as they are, except lone surrogates: U+FFFD, as UTF-8 has it.
import { type PieceModel, spaceMark } from './piece-model.js';
import { isLoneSurrogate } from './utf8.js';

const space = 0x20;

export class Normalizer {
  /** The normalised text, in UTF-16 units; valid up to what `run` returned, until the next run. */
  units = new Uint16Array(1024);
  readonly #dummyPrefix: PieceModel['dummyPrefix'];
  readonly #squeezes: boolean;
  // Without squeezing, offsets are unit indices less the prefix; with it, they are looked up.
  #prefixed = 0;
  #offsets: Int32Array | undefined;

  constructor({ dummyPrefix, removeExtraWhitespaces }: Pick<PieceModel, 'dummyPrefix' | 'removeExtraWhitespaces'>) {
    this.#dummyPrefix = dummyPrefix;
    this.#squeezes = removeExtraWhitespaces;
  }

  /** Normalises `text` into `units` and returns the number of units. */
  run(text: string, continuation: boolean): number {
    this.#prefixed = 0;
    if (text === '') return 0;
    // A buffer that was blown up by one huge text is let go at the next ordinary one.
    if (text.length >= this.units.length || (this.units.length > 1 << 23 && text.length < 1 << 20)) {
      this.units = new Uint16Array(Math.max(1024, text.length + 1));
    }
    if (this.#squeezes) return this.#squeeze(text, continuation);
    const { units } = this;
    let length = 0;
    if (!continuation && this.#prefixes(text)) {
      units[length++] = spaceMark;
      this.#prefixed = 1;
    }
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      units[length++] =
        unit === space ? spaceMark : (unit & 0xf800) === 0xd800 && isLoneSurrogate(text, i) ? 0xfffd : unit;
    }
    return length;
  }

  /** The offset in the text of the unit at `index`; of the dummy prefix, that of what follows it. */
  offsetOf(index: number): number {
    return this.#offsets ? this.#offsets[index]! : index > 0 ? index - this.#prefixed : 0;
  }

  #prefixes(text: string): boolean {
    if (this.#dummyPrefix === 'never') return false;
    const first = text.charCodeAt(0);
    return this.#dummyPrefix === 'always' || (first !== space && first !== spaceMark);
  }

  /** As SentencePiece with remove_extra_whitespaces. In a continuation spaces at the front still separate, so one stays. */
  #squeeze(text: string, continuation: boolean): number {
    const { units } = this;
    const offsets = new Int32Array(text.length + 1);
    let from = 0;
    if (!continuation) while (text.charCodeAt(from) === space) from++;
    if (from === text.length) return 0;
    let length = 0;
    const append = (unit: number, offset: number): void => {
      units[length] = unit;
      offsets[length++] = offset;
    };
    if (!continuation && this.#dummyPrefix !== 'never') append(spaceMark, from);
    let afterSpace = false;
    for (let i = from; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      const lone = (unit & 0xf800) === 0xd800 && isLoneSurrogate(text, i);
      if (unit !== space) append(lone ? 0xfffd : unit, i);
      else if (!afterSpace) append(spaceMark, i);
      afterSpace = unit === space;
    }
    // SentencePiece cuts by the written mark, so a literal ▁ at the end goes too.
    while (length > 0 && units[length - 1] === spaceMark) length--;
    this.#offsets = offsets;
    return length;
  }
}
