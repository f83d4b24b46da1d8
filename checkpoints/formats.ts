// SPDX-License-Identifier: Apache-2.0
// Which reader a file of tensors needs, by the ending of its name.
import { UserError } from '../errors.js';
import { openGguf } from './gguf-tensors.js';
import { openSafetensors } from './safetensors.js';
import type { TensorFile } from './tensor-file.js';
import { openTorch } from './torch.js';

const READERS: Readonly<Record<string, (path: string) => TensorFile>> = {
  '.safetensors': openSafetensors,
  '.gguf': openGguf,
  '.bin': openTorch,
  '.pt': openTorch,
};

/** Opens and checks a file of tensors. @throws UserError */
export function openTensorFile(path: string): TensorFile {
  const reader = Object.entries(READERS).find(([ending]) => path.endsWith(ending))?.[1];
  if (reader) return reader(path);
  throw new UserError({
    expected: `a file of tensors, named ${Object.keys(READERS)
      .map((ending) => `*${ending}`)
      .join(', ')}`,
    found: 'another ending',
    where: path,
  });
}
