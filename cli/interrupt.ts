// SPDX-License-Identifier: Apache-2.0
// Ctrl-C (and the signal that a scheduler sends): the first asks for a clean end, the second ends at once.

/** @param notice what the first one brings about */
export function interruptSignal(notice: string): AbortSignal {
  const controller = new AbortController();
  const interrupt = (): void => {
    if (controller.signal.aborted) process.exit(130);
    process.stderr.write(`\n${notice} (again: end at once)\n`);
    controller.abort();
  };
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, interrupt);
  return controller.signal;
}
