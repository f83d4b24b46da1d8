// SPDX-License-Identifier: Apache-2.0
// UTF-8 without mercy: bytes that are no text end in an error, where a lenient decoder would put replacement characters.

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @throws TypeError where the bytes are no text */
export const decodeUtf8 = (bytes: Uint8Array): string => decoder.decode(bytes);

/** How many bytes at the start are whole characters. */
export function validUtf8Bytes(bytes: Uint8Array): number {
  const valid = (length: number, stream: boolean) => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream });
      return true;
    } catch {
      return false;
    }
  };
  // Halving: while a character may still go on, a longer prefix of a bad one is never good.
  let good = 0;
  let bad = bytes.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (valid(middle, true)) good = middle;
    else bad = middle;
  }
  while (!valid(good, false)) good--; // back to the start of a character that was cut short
  return good;
}
