// SPDX-License-Identifier: Apache-2.0
// The Tokenizer that `loadTokenizer` returns: a codec for plain text, and the special tokens around it. It is here, once for
// every kind, that special tokens are kept out of text.
import { UserError } from '../errors.js';
import { type AddedToken, AddedTokens } from './added-tokens.js';
import type { Codec } from './codec.js';
import { TokenBuffer } from './token-buffer.js';
import type { DecodeOptions, EncodeOptions, Encoding, StreamDecoder, Tokenizer, TokenizerKind } from './tokenizer.js';

export interface TokenizerParts {
  codec: Codec;
  /** Control and added tokens: those that decoding and `specials` treat apart from text. */
  added: readonly AddedToken[];
  /** Further tokens that `specialId` finds, by their text. */
  named: ReadonlyMap<string, number>;
  bosId: number | undefined;
  eosId: number | undefined;
  unknownId: number | undefined;
  padId: number | undefined;
  addBos: boolean;
  addEos: boolean;
  fingerprint: string;
}

export class TextTokenizer implements Tokenizer {
  readonly kind: TokenizerKind;
  readonly vocabularySize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly unknownId: number | undefined;
  readonly padId: number | undefined;
  readonly addBos: boolean;
  readonly addEos: boolean;
  readonly fingerprint: string;

  readonly #codec: Codec;
  readonly #added: AddedTokens;
  readonly #specialIds: ReadonlyMap<string, number>;
  readonly #buffer = new TokenBuffer();

  constructor(parts: TokenizerParts) {
    this.kind = parts.codec.kind;
    this.vocabularySize = parts.added.reduce((size, token) => Math.max(size, token.id + 1), parts.codec.size);
    this.bosId = parts.bosId;
    this.eosId = parts.eosId;
    this.unknownId = parts.unknownId;
    this.padId = parts.padId;
    this.addBos = parts.addBos && parts.bosId !== undefined;
    this.addEos = parts.addEos && parts.eosId !== undefined;
    this.fingerprint = parts.fingerprint;
    this.#codec = parts.codec;
    this.#added = new AddedTokens(parts.added);
    this.#specialIds = new Map([...parts.named, ...parts.added.map(({ content, id }) => [content, id] as const)]);
  }

  encode(text: string, options?: EncodeOptions): Int32Array {
    this.#encode(text, options);
    return this.#buffer.ids.slice(0, this.#buffer.length);
  }

  encodeWithOffsets(text: string, options?: EncodeOptions): Encoding {
    this.#encode(text, options);
    const { ids, starts, length } = this.#buffer;
    return { ids: ids.slice(0, length), starts: starts.slice(0, length) };
  }

  decode(ids: ArrayLike<number>, options?: DecodeOptions): string {
    const decoder = this.decoder(options);
    const parts: string[] = [];
    for (let i = 0; i < ids.length; i++) parts.push(decoder.push(ids[i]!));
    parts.push(decoder.end());
    return parts.join('');
  }

  decoder({ specials = false, continuation = false }: DecodeOptions = {}): StreamDecoder {
    const stream = this.#codec.stream(continuation);
    return {
      push: (id) => {
        const added = this.#added.byId(id);
        if (added) return stream.pushText(added.special && !specials ? '' : added.content);
        if (this.#codec.piece(id) === undefined) throw this.#outside(id);
        return stream.push(id);
      },
      end: () => stream.end(),
    };
  }

  specialId(text: string): number | undefined {
    return this.#specialIds.get(text);
  }

  piece(id: number): string {
    const piece = this.#added.byId(id)?.content ?? this.#codec.piece(id);
    if (piece === undefined) throw this.#outside(id);
    return piece;
  }

  /** Leaves the tokens of `text` in the buffer. */
  #encode(text: string, { specials = false, continuation = false }: EncodeOptions = {}): void {
    const buffer = this.#buffer;
    buffer.clear();
    if (!this.#added.occursInText(specials)) {
      this.#codec.encode(text, continuation, buffer);
      return;
    }
    let goesOn = continuation;
    this.#added.split(
      text,
      specials,
      (from, to) => {
        const first = buffer.length;
        this.#codec.encode(text.slice(from, to), goesOn, buffer);
        for (let i = first; i < buffer.length; i++) buffer.starts[i]! += from;
        goesOn ||= this.#codec.prefixesOnlyFirst;
      },
      (id, at) => {
        buffer.push(id, at);
        goesOn ||= this.#codec.prefixesOnlyFirst;
      },
    );
  }

  #outside(id: number): UserError {
    return new UserError({
      expected: `a token id from 0 to ${this.vocabularySize - 1}`,
      found: String(id),
      remedy: 'The ids come from another tokenizer; use the one in the directory of the model that made them.',
    });
  }
}
