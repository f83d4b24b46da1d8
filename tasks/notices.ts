// SPDX-License-Identifier: Apache-2.0
// What a user should hear of that is neither result nor fault: told from within a task, wherever it comes up, and handed out as
// events in order. Knows nothing of what they say.

/** Not written to a run's folder: what is told depends on what lies around, and the folder's bytes must not. */
export interface NoticeEvent {
  type: 'notice';
  text: string;
}

export class Notices {
  private waiting: NoticeEvent[] = [];
  private wake = () => {};

  readonly tell = (text: string): void => {
    this.waiting.push({ type: 'notice', text });
    this.wake();
  };

  /** Those since the last time. */
  take(): NoticeEvent[] {
    return this.waiting.splice(0);
  }

  /** Those that are told until a work has ended, as they are told. How it ends is for whoever awaits it. */
  async *until(work: Promise<unknown>): AsyncGenerator<NoticeEvent> {
    let ended = false;
    const end = () => {
      ended = true;
      this.wake();
    };
    work.then(end, end);
    for (;;) {
      yield* this.take();
      if (ended) return;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        if (ended || this.waiting.length > 0) resolve();
      });
    }
  }
}
