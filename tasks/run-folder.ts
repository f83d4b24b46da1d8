// SPDX-License-Identifier: Apache-2.0
// A run's folder: adapter, log, recipe, and checkpoints that a run can go on from. One process at a time writes to it. The
// invariant: a run killed at any moment and resumed leaves the same bytes as one that was never stopped.
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import {
  ADAPTER_FILES,
  type AdapterTensorName,
  type ElementType,
  findRunState,
  isAlive,
  openSafetensors,
  saveRunState,
  streamAdapter,
  streamSafetensors,
  type WeightStream,
  writeFileAtomically,
  writeModel,
} from '../checkpoints/index.js';
import type { Compute, Optimizer, TrainingEvent, TrainingRun, TrainingState, Values } from '../engine/index.js';
import { UserError } from '../errors.js';
import { native } from '../kernels/index.js';
import { type Recipe, recipeToYaml } from '../recipes/index.js';
import type { OpenedModel } from './open-model.js';
import type { DeviceName } from './place.js';

/** Files of a run beside its adapter. `events` has what `log` has no line for: measurements, and every move of the curriculum. */
export const RUN_FILES = {
  log: 'log.jsonl',
  events: 'events.jsonl',
  recipe: 'recipe.yaml',
  card: 'README.md',
} as const;

/** Files of a fully trained model, and those that make its folder complete. */
const MODEL_FILES = [
  'config.json',
  'model.safetensors',
  'tokenizer.model',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
];
const LOCK = 'lock';
const STATE = 'state.json';
const OPTIMIZER = 'optimizer.safetensors';

/** What a checkpoint holds besides tensors. */
interface SavedState {
  version: 1;
  training: TrainingState;
  /** Lengths of the logs, which are cut back to them on resuming. */
  logBytes: number;
  eventsBytes: number;
  /** Decided when the run began: resuming elsewhere must not change it. */
  compute: Compute;
  device: DeviceName;
  /** For people; bits are the same only where these are. */
  environment: { node: string; instructionSet: string };
}

/** A checkpoint to go on from, verified. */
export interface ResumePoint extends SavedState {
  folder: string;
}

/** Takes a folder for this process. @throws UserError when another one has it */
export class RunFolder {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  static take(path: string): RunFolder {
    mkdirSync(path, { recursive: true });
    const lock = join(path, LOCK);
    for (;;) {
      try {
        writeFileSync(lock, `${process.pid} ${hostname()}\n`, { flag: 'wx' });
        return new RunFolder(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const [pid, host] = ownerOf(lock);
      if (host !== undefined && (host !== hostname() || isAlive(Number(pid)))) {
        throw new UserError({
          expected: 'a run folder that no other process uses',
          found: `one in use by process ${pid} on ${host}`,
          where: path,
          remedy: `choose another folder with '--output'; if that process is gone, remove ${lock}`,
        });
      }
      rmSync(lock, { force: true }); // of a process that was killed, perhaps before it wrote its name
    }
  }

  release(): void {
    rmSync(this.#at(LOCK), { force: true });
  }

  #at(name: string): string {
    return join(this.#path, name);
  }

  /** Begins a run: files of an earlier one move to a folder of their own, which is returned, and the recipe is written. */
  begin(recipe: Recipe): string | undefined {
    const moved = this.#moveEarlier();
    writeFileAtomically(this.#at(RUN_FILES.recipe), recipeToYaml(recipe));
    return moved;
  }

  #moveEarlier(): string | undefined {
    const ours = [...ADAPTER_FILES, ...MODEL_FILES, ...Object.values(RUN_FILES), 'checkpoints'].filter((file) =>
      existsSync(this.#at(file)),
    );
    if (ours.length === 0) return undefined;
    const earlier = readdirSync(this.#path)
      .filter((name) => /^earlier-\d+$/.test(name))
      .map((name) => Number(name.slice(8)));
    const folder = this.#at(`earlier-${Math.max(0, ...earlier) + 1}`);
    mkdirSync(folder);
    for (const file of ours) renameSync(this.#at(file), join(folder, file));
    return folder;
  }

  /** Goes on with a run: what its logs say of steps after the checkpoint will be said again. */
  resume({ logBytes, eventsBytes }: ResumePoint): void {
    for (const [name, bytes] of [
      [RUN_FILES.log, logBytes],
      [RUN_FILES.events, eventsBytes],
    ] as const) {
      const path = this.#at(name);
      const found = sizeOf(path);
      if (found < bytes) {
        throw new UserError({
          expected: `a log of at least ${bytes} bytes, as when the checkpoint was written`,
          found: `${found} bytes`,
          where: path,
          remedy: 'put the log back, or start a new run from the adapter with --init-adapter',
        });
      }
      if (found > bytes) truncateSync(path, bytes);
    }
  }

  log(event: TrainingEvent): void {
    const { type, ...fields } = event;
    if (type === 'step') appendFileSync(this.#at(RUN_FILES.log), `${JSON.stringify(fields)}\n`);
    else appendFileSync(this.#at(RUN_FILES.events), `${JSON.stringify(event)}\n`);
  }

  /** Writes the adapter, or the whole model where all of it trains. Returns the files. */
  async saveResult(model: OpenedModel, recipe: Recipe): Promise<string[]> {
    giveBackIdleMemory(model);
    return (await writeTrained(model, recipe, this.#path)).map((file) => this.#at(file));
  }

  /** Writes a checkpoint of a run that stands between two steps. */
  async saveState(run: TrainingRun, model: OpenedModel, recipe: Recipe): Promise<void> {
    giveBackIdleMemory(model);
    for (const name of [RUN_FILES.log, RUN_FILES.events]) syncFile(this.#at(name)); // a checkpoint counts on their lengths
    const state: SavedState = {
      version: 1,
      training: run.state,
      logBytes: sizeOf(this.#at(RUN_FILES.log)),
      eventsBytes: sizeOf(this.#at(RUN_FILES.events)),
      compute: model.llama.device.compute,
      device: model.llama.device.name as DeviceName,
      environment: { node: process.version, instructionSet: native().instructionSet() },
    };
    await saveRunState(this.#path, { step: state.training.step, keep: recipe.checkpoints.keep }, async (folder) => {
      await writeTrained(model, recipe, folder, 'f32');
      await writeOptimizer(model, run.optimizer, join(folder, OPTIMIZER));
      writeFileAtomically(join(folder, STATE), `${JSON.stringify(state)}\n`);
    });
  }
}

/** Between steps the memory of activations is only held for reuse: the copies that are written to files take its place. */
function giveBackIdleMemory({ llama }: OpenedModel): void {
  llama.device.trim();
}

/** The newest checkpoint of a run, or the one named. @throws UserError when it is damaged */
export function findResumePoint(run: string, checkpoint?: string): ResumePoint {
  const folder = findRunState(run, checkpoint);
  return { ...(JSON.parse(readFileSync(join(folder, STATE), 'utf8')) as SavedState), folder };
}

/** Puts the optimizer's states of a checkpoint in place. */
export function restoreOptimizer(
  { llama: { device } }: OpenedModel,
  optimizer: Optimizer,
  { folder }: ResumePoint,
): void {
  const path = join(folder, OPTIMIZER);
  const file = openSafetensors(path);
  try {
    for (const { name, tensor } of optimizer.tensors()) {
      const info = file.tensors.get(name);
      if (info?.shape.length !== 1 || info.shape[0] !== tensor.size) {
        throw new UserError({
          expected: `optimizer state '${name}' of ${tensor.size} values`,
          found: info ? `(${info.shape})` : 'none',
          where: path,
        });
      }
      let at = 0;
      for (const block of file.blocks(name) as Iterable<Values>) {
        device.upload(device.view(tensor, at, [block.length]), block);
        at += block.length;
      }
    }
  } finally {
    file.close();
  }
}

const STATE_TYPES: Record<string, ElementType> = { f32: 'F32', u8: 'U8' };

/** Elements of a state that are copied at a time: all states of a group are one tensor. */
const PIECE = 1 << 20;

async function writeOptimizer({ llama: { device } }: OpenedModel, optimizer: Optimizer, path: string): Promise<void> {
  const streams = optimizer.tensors().map(
    ({ name, tensor }): WeightStream => ({
      declarations: [{ name, dtype: STATE_TYPES[tensor.dtype]!, shape: tensor.shape }],
      async produce(put) {
        for (let at = 0; at < tensor.size; at += PIECE) {
          put(name, await device.download(device.view(tensor, at, [Math.min(PIECE, tensor.size - at)])));
        }
      },
    }),
  );
  await streamSafetensors(path, streams);
}

/** @param dtype of a whole model; default: that of the model it began as */
async function writeTrained(model: OpenedModel, recipe: Recipe, folder: string, dtype?: 'f32'): Promise<string[]> {
  const { llama, files } = model;
  const { device, parameters } = llama;
  if (llama.adapter === 'full') {
    const values = (name: Parameters<typeof files.weight>[0]) => device.download(parameters!.get(name).value);
    await writeModel(folder, files.config, values, { dtype: dtype ?? files.weight('embedding').dtype });
    const beside = MODEL_FILES.slice(2).filter((file) => existsSync(join(files.directory, file)));
    for (const file of beside) copyFileSync(join(files.directory, file), join(folder, file));
    return ['config.json', 'model.safetensors', ...beside];
  }
  const settings = { ...llama.adapter!, targets: [...llama.adapter!.targets], baseModel: recipe.model };
  const shapes = parameters!.list.map(
    ({ name, shape }) => [name as AdapterTensorName, shape as [number, number]] as const,
  );
  await streamAdapter(folder, settings, new Map(shapes), (name) => device.download(parameters!.get(name).value));
  return [...ADAPTER_FILES];
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

function syncFile(path: string): void {
  if (!existsSync(path)) return;
  const file = openSync(path, 'r+');
  fsyncSync(file);
  closeSync(file);
}

/** Process and host that a lock names; nothing where it was killed between making the file and writing to it. */
function ownerOf(lock: string): [pid?: string, host?: string] {
  for (let tries = 0; tries < 10; tries++) {
    const [pid, host] = existsSync(lock) ? readFileSync(lock, 'utf8').trim().split(' ') : [];
    if (host !== undefined) return [pid!, host];
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10); // milliseconds: it may be writing just now
  }
  return [];
}
