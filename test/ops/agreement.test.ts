// SPDX-License-Identifier: Apache-2.0
// Every op on every instruction set of this machine, against the scalar reference: values within the table's tolerance, the
// same bits with 1, 2 and 3 threads, in place where that is allowed, and no byte written beside an output.
// Run: npm test -- ops/agreement
import { native } from '../../kernels/index.js';
import { suite } from '../support/harness.js';
import { opTables } from './cases.js';
import { difference, execute, sameBits, under } from './execute.js';
import { type Arguments, describeShape, makeArguments, type OpName, type Values } from './op-table.js';

const test = suite('ops: agreement');
const instructionSets = native()
  .instructionSets()
  .filter((name) => name !== 'reference');

function explain(where: string, error: unknown): never {
  throw new Error(`${where}: ${error instanceof Error ? error.message : error}`);
}

interface Case {
  shape: string;
  args: Arguments;
  want: Record<string, Values>;
}

for (const [name, definition] of Object.entries(opTables)) {
  const op = name as OpName;
  test(op, () => {
    const cases: Case[] = under('reference', 1, () =>
      definition.shapes.map((shape) => {
        const args = makeArguments(op, definition, shape);
        try {
          return { shape: describeShape(shape), args, want: execute(op, args) };
        } catch (error) {
          return explain(`${op} on reference, ${describeShape(shape)}`, error);
        }
      }),
    );
    for (const set of instructionSets) {
      const first = new Map<Case, Record<string, Values>>(); // what one thread gave
      for (const threads of [1, 2, 3]) {
        under(set, threads, () => {
          for (const item of cases) {
            try {
              const got = execute(op, item.args);
              if (threads === 1) {
                first.set(item, got);
                check(op, item, got);
              } else {
                for (const [output, values] of Object.entries(first.get(item)!)) {
                  if (!sameBits(values, got[output]!)) throw new Error(`${output} has other bits than with one thread`);
                }
              }
            } catch (error) {
              explain(`${op} on ${set}, ${threads} threads, ${item.shape}`, error);
            }
          }
        });
      }
    }
  });

  for (const alias of definition.aliases ?? []) {
    test(`${op} with ${alias[0]} in the place of ${alias[1]}`, () => {
      for (const set of ['reference', ...instructionSets]) {
        for (const shape of definition.shapes) {
          const args = makeArguments(op, definition, shape);
          const apart = under(set, 2, () => execute(op, args));
          const together = under(set, 2, () => execute(op, args, alias));
          for (const [output, values] of Object.entries(apart)) {
            if (!sameBits(values, together[output]!))
              throw new Error(`${op} on ${set}, ${describeShape(shape)}: ${output} differs`);
          }
        }
      }
    });
  }
}

function check(op: OpName, { want }: Case, got: Record<string, Values>): void {
  for (const [output, values] of Object.entries(want)) {
    const problem = difference(values, got[output]!, opTables[op].tolerance);
    if (problem) throw new Error(`${output}: ${problem}`);
  }
}
