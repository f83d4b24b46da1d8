// SPDX-License-Identifier: Apache-2.0
// A feed made beside training: a thread reads, composes, tokenises and packs, a bounded number of batches ahead. What comes is
// exactly what feed.ts gives, cursors included: a batch's cursor is where the reader stands, not the thread. This file runs on
// both sides; as a thread's entry it makes the feed.
import { fileURLToPath } from 'node:url';
import {
  isMainThread,
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  Worker,
  workerData,
} from 'node:worker_threads';
import { UserError, type UserErrorParts } from '../errors.js';
import type { Cursor, Fed } from './feed.js';
import { type FeedPlan, feedOf } from './feed-plan.js';

/**
 * What is made ahead: more rows than a window of packing gives, so that the next window is read while those of the last are
 * trained on, as far as their memory allows; and always some batches.
 */
const AHEAD_ROWS = 1024;
export const AHEAD_BYTES = 16 << 20;
const MIN_AHEAD = 4;
/** Told together: each word wakes the thread, which on a busy machine runs in the place of the training that told it. */
const TAKEN_SHARE = 1 / 8;

type Message = { fed: Fed } | { end: true } | { fault: Fault } | { notice: string };
/** An error on its way between threads, which would lose its class. */
type Fault = { user: UserErrorParts } | { message: string; stack: string | undefined };

interface Size {
  rows: number;
  bytes: number;
}

const arraysOf = ({ batch: { ids, labels, positions, segments } }: Fed) => [ids, labels, positions, segments];

const sizeOf = (fed: Fed): Size => ({
  rows: fed.batch.B,
  bytes: arraysOf(fed).reduce((sum, { byteLength }) => sum + byteLength, 0),
});

interface Assignment {
  plan: FeedPlan;
  cursor: Cursor | undefined;
  port: MessagePort;
}

/** The batches of a feed, made in a thread of their own. Leaving the loop ends the thread. @param notice as feedOf's */
export async function* prefetch(
  plan: FeedPlan,
  cursor?: Cursor,
  notice: (text: string) => void = () => {},
): AsyncGenerator<Fed> {
  const { port1, port2 } = new MessageChannel();
  const assignment: Assignment = { plan, cursor, port: port2 };
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: { prefetch: assignment },
    transferList: [port2],
    execArgv: [], // those of a program from the command line (--input-type) are no options of a thread
  });
  worker.unref();
  const inbox = new Inbox(port1);
  let taken = { batches: 0, rows: 0, bytes: 0 };
  // A thread that dies without a word: out of memory, or a fault of ours.
  worker.once('error', (error) => inbox.fail(error));
  worker.once('exit', (code) => inbox.fail(new Error(`the thread that reads data ended with code ${code}`)));
  try {
    for (;;) {
      const message = inbox.take() ?? (await inbox.next());
      if ('end' in message) return;
      if ('fault' in message) throw errorOf(message.fault);
      if ('notice' in message) {
        notice(message.notice);
        continue;
      }
      const { rows, bytes } = sizeOf(message.fed);
      taken.batches++;
      taken.rows += rows;
      taken.bytes += bytes;
      if (taken.rows >= TAKEN_SHARE * AHEAD_ROWS || taken.bytes >= TAKEN_SHARE * AHEAD_BYTES) {
        port1.postMessage(taken.batches);
        taken = { batches: 0, rows: 0, bytes: 0 };
      }
      yield message.fed;
    }
  } finally {
    port1.close();
    await worker.terminate();
  }
}

/** Messages in order, whether the event loop has brought them or not: training keeps it busy for seconds. */
class Inbox {
  private readonly brought: Message[] = [];
  private failure: Error | undefined;
  private wake = () => {};

  constructor(private readonly port: MessagePort) {
    port.on('message', (message: Message) => {
      this.brought.push(message);
      this.wake();
    });
    port.unref();
  }

  fail(error: Error): void {
    this.failure ??= error;
    this.wake();
  }

  /** What is there already. */
  take(): Message | undefined {
    return this.brought.shift() ?? (receiveMessageOnPort(this.port)?.message as Message | undefined);
  }

  /** Waits; meanwhile the process stays alive. */
  async next(): Promise<Message> {
    this.port.ref();
    try {
      for (;;) {
        const message = this.take();
        if (message) return message;
        if (this.failure) throw this.failure;
        await new Promise<void>((resolve) => {
          this.wake = resolve;
        });
      }
    } finally {
      this.port.unref();
    }
  }
}

async function make({ plan, cursor, port }: Assignment): Promise<void> {
  const ahead = { batches: [] as Size[], rows: 0, bytes: 0 };
  const count = ({ rows, bytes }: Size, sign: 1 | -1) => {
    ahead.rows += sign * rows;
    ahead.bytes += sign * bytes;
  };
  const isEnough = () => ahead.batches.length >= MIN_AHEAD && (ahead.rows >= AHEAD_ROWS || ahead.bytes >= AHEAD_BYTES);
  let wake = () => {};
  port.on('message', (batches: number) => {
    for (const size of ahead.batches.splice(0, batches)) count(size, -1);
    wake();
  });
  const send = (message: Message, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);
  try {
    for await (const fed of feedOf(plan, cursor, (notice) => send({ notice }))) {
      const size = sizeOf(fed);
      ahead.batches.push(size);
      count(size, 1);
      send(
        { fed },
        arraysOf(fed).map(({ buffer }) => buffer as ArrayBuffer),
      );
      while (isEnough()) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    send({ end: true });
  } catch (error) {
    send({ fault: faultOf(error) });
  }
  port.unref();
}

function faultOf(error: unknown): Fault {
  if (error instanceof UserError) {
    const { expected, found, where, remedy } = error;
    return {
      user: { expected, found, ...(where !== undefined && { where }), ...(remedy !== undefined && { remedy }) },
    };
  }
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return { message, stack };
}

function errorOf(fault: Fault): Error {
  if ('user' in fault) return new UserError(fault.user);
  const error = new Error(fault.message);
  if (fault.stack !== undefined) error.stack = fault.stack;
  return error;
}

const assigned = (workerData as { prefetch?: Assignment } | null)?.prefetch;
if (!isMainThread && assigned) await make(assigned);
