// SPDX-License-Identifier: Apache-2.0
// Where broken JSON breaks. JSON.parse is fast but often gives no position, so a text that it refused is walked again here,
// token by token, to say at which character which thing was expected. Only ever run on a text that is known to be broken or
// cut short; keeps its own stack, so deep nesting cannot overflow the call stack.

export interface JsonFault {
  /** In UTF-16 units from the start of the text. */
  offset: number;
  expected: string;
  found: string;
}

/** What may come next. */
type Expect =
  | 'a value'
  | "a value or ']'"
  | "a name in quotes or '}'"
  | 'a name in quotes'
  | "':'"
  | "',' or '}'"
  | "',' or ']'"
  | 'the end';

const SPACE = /[ \t\n\r]*/y;
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const WORD = /[\p{L}\p{N}_.+-]+|./suy;

/** The first fault of a text, or undefined where it is JSON. */
export function jsonFault(text: string): JsonFault | undefined {
  const open: ('{' | '[')[] = [];
  let expect: Expect = 'a value';
  let at = 0;
  const afterValue = (): Expect => (open.length === 0 ? 'the end' : open.at(-1) === '{' ? "',' or '}'" : "',' or ']'");
  for (;;) {
    at += match(SPACE, text, at).length;
    const char = text[at];
    if (char === undefined)
      return expect === 'the end' ? undefined : { offset: at, expected: expect, found: 'the end' };
    const unexpected = () => ({ offset: at, expected: expect, found: `'${match(WORD, text, at).slice(0, 20)}'` });
    if (char === '"' && (expect === 'a value' || expect === "a value or ']'" || expect.startsWith('a name'))) {
      const end = stringEnd(text, at);
      if (typeof end !== 'number') return end;
      at = end;
      expect = expect.startsWith('a name') ? "':'" : afterValue();
    } else if (expect === 'a value' || expect === "a value or ']'") {
      const scalar = match(SCALAR, text, at);
      if (char === '{' || char === '[') {
        open.push(char);
        expect = char === '{' ? "a name in quotes or '}'" : "a value or ']'";
        at++;
      } else if (char === ']' && expect === "a value or ']'") {
        open.pop();
        expect = afterValue();
        at++;
      } else if (scalar !== '') {
        at += scalar.length;
        expect = afterValue();
      } else return unexpected();
    } else if (expect === "':'" && char === ':') {
      expect = 'a value';
      at++;
    } else if (expect.startsWith("','") && char === ',') {
      expect = open.at(-1) === '{' ? 'a name in quotes' : 'a value';
      at++;
    } else if (expect.endsWith(`'${char}'`) && (char === '}' || char === ']')) {
      open.pop();
      expect = afterValue();
      at++;
    } else return unexpected();
  }
}

/** Where the string that opens at `from` ends, or its fault. */
function stringEnd(text: string, from: number): number | JsonFault {
  for (let at = from + 1; at < text.length; at++) {
    const char = text[at]!;
    if (char === '"') return at + 1;
    if (char < ' ') {
      const code = char.charCodeAt(0).toString(16).padStart(4, '0');
      return { offset: at, expected: `an escape (\\u${code})`, found: 'a raw control character inside a string' };
    }
    if (char !== '\\') continue;
    const after = text.slice(at + 1, at + 6);
    if (/^["\\/bfnrt]/.test(after)) at++;
    else if (/^u[0-9a-fA-F]{4}/.test(after)) at += 5;
    else return { offset: at, expected: 'a JSON escape after \\', found: `'\\${after.slice(0, 1)}'` };
  }
  return {
    offset: text.length,
    expected: `a closing " for the string ${text.slice(from, from + 20)}…`,
    found: 'the end',
  };
}

function match(pattern: RegExp, text: string, at: number): string {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? '';
}
