// SPDX-License-Identifier: Apache-2.0
// Tokens that stand beside the vocabulary proper: control tokens and those a fine-tune has added. Finds them in text, in the
// two cases where that is wanted: tokens that are not special always (they are ordinary vocabulary), special ones only on request.

export interface AddedToken {
  id: number;
  content: string;
  /** Special tokens come from templates only; the others are part of ordinary text. */
  special: boolean;
}

export class AddedTokens {
  readonly #byId: ReadonlyMap<number, AddedToken>;
  readonly #byContent: ReadonlyMap<string, number>;
  readonly #ordinary: RegExp | undefined;
  readonly #all: RegExp | undefined;

  constructor(tokens: readonly AddedToken[]) {
    this.#byId = new Map(tokens.map((token) => [token.id, token]));
    this.#byContent = new Map(tokens.map((token) => [token.content, token.id]));
    this.#ordinary = anyOf(tokens.filter((token) => !token.special));
    this.#all = anyOf(tokens);
  }

  byId(id: number): AddedToken | undefined {
    return this.#byId.get(id);
  }

  /** Whether `split` can find anything. */
  occursInText(specials: boolean): boolean {
    return (specials ? this.#all : this.#ordinary) !== undefined;
  }

  /** Cuts a text at added tokens, leftmost first, the longest where several begin: calls for each stretch, in order. */
  split(
    text: string,
    specials: boolean,
    onText: (from: number, to: number) => void,
    onToken: (id: number, at: number) => void,
  ): void {
    const pattern = specials ? this.#all : this.#ordinary;
    let from = 0;
    for (const match of pattern ? text.matchAll(pattern) : []) {
      if (match.index > from) onText(from, match.index);
      onToken(this.#byContent.get(match[0])!, match.index);
      from = match.index + match[0].length;
    }
    if (from < text.length) onText(from, text.length);
  }
}

function anyOf(tokens: readonly AddedToken[]): RegExp | undefined {
  if (tokens.length === 0) return undefined;
  const contents = tokens.map((token) => token.content).sort((a, b) => b.length - a.length);
  return new RegExp(contents.map((content) => content.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')).join('|'), 'gu');
}
