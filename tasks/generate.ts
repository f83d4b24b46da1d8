// SPDX-License-Identifier: Apache-2.0
// Lets a model go on from a prompt, or answer a question framed as in training, and gives the text out as soon as it is
// certain (a character of several tokens waits for the last of them). Knows files only through the opened model.
import { encodePrompt, loadTemplate, type Template } from '../datasets/index.js';
import { GREEDY, generateTokens, type SamplingSettings } from '../engine/index.js';
import { UserError } from '../errors.js';
import type { Tokenizer } from '../tokenizer/index.js';
import { type ModelOptions, type OpenedModel, openForInference } from './open-model.js';

export interface GenerateRequest extends Partial<SamplingSettings>, Omit<ModelOptions, 'model'> {
  /** A model directory, which is opened for this text alone, or an opened model. */
  model: string | OpenedModel;
  prompt: string;
  maxNewTokens?: number | undefined;
  seed?: number | undefined;
  /** Frames the prompt as a question, as training with this template does: a built-in name or a file. */
  template?: string | undefined;
  /** Of the question, by its English name; for templates that name it. */
  language?: string | undefined;
  /** What the question is about, apart from the instruction. */
  input?: string | undefined;
}

export const DEFAULT_NEW_TOKENS = 256;

/**
 * Yields pieces of the text that follows the prompt, until a stop token, the limit, or an abort.
 * @throws UserError when the prompt does not fit the model's context, or the template the tokenizer
 */
export async function* generate(request: GenerateRequest, signal?: AbortSignal): AsyncGenerator<string> {
  const { model } = request;
  if (typeof model !== 'string') {
    yield* continuation(model, request, signal);
    return;
  }
  const opened = await openForInference({ ...request, model });
  try {
    yield* continuation(opened, request, signal);
  } finally {
    opened.close();
  }
}

async function* continuation(
  model: OpenedModel,
  request: GenerateRequest,
  signal: AbortSignal | undefined,
): AsyncGenerator<string> {
  const { llama, tokenizer, files } = model;
  const template = request.template === undefined ? undefined : await loadTemplate(request.template);
  const ids = template ? questionIds(tokenizer, template, request) : promptIds(tokenizer, request.prompt);
  const stops = [...files.config.eosTokenIds, tokenizer.eosId, template && endOf(tokenizer, template)];
  const stopIds = stops.filter((id) => id !== undefined);
  const settings = {
    temperature: request.temperature ?? GREEDY.temperature,
    topP: request.topP ?? GREEDY.topP,
    topK: request.topK ?? GREEDY.topK,
    repetitionPenalty: request.repetitionPenalty ?? GREEDY.repetitionPenalty,
    maxNewTokens: request.maxNewTokens ?? DEFAULT_NEW_TOKENS,
    seed: request.seed ?? 0,
    stopIds,
  };

  const decoder = tokenizer.decoder({ continuation: true });
  // An answer begins with the space that stands before its first word; text that goes on keeps it.
  let atStart = template !== undefined;
  const piece = (text: string): string => {
    const shown = atStart ? text.trimStart() : text;
    if (shown !== '') atStart = false;
    return shown;
  };
  for await (const id of generateTokens(llama, ids, settings, signal)) {
    if (stopIds.includes(id)) break;
    const text = piece(decoder.push(id));
    if (text !== '') yield text;
  }
  const rest = piece(decoder.end());
  if (rest !== '') yield rest;
}

function promptIds(tokenizer: Tokenizer, prompt: string): number[] {
  const ids = [...tokenizer.encode(prompt)];
  return tokenizer.addBos ? [tokenizer.bosId!, ...ids] : ids;
}

function questionIds(
  tokenizer: Tokenizer,
  template: Template,
  { prompt, language, input = '' }: GenerateRequest,
): Int32Array {
  const parts = [...template.prompt, ...(template.promptWithInput ?? [])];
  if (language === undefined && parts.some((part) => 'text' in part && part.text.includes('{language}'))) {
    throw new UserError({
      expected: `a language, which the template '${template.name}' names`,
      found: 'none',
      remedy: 'give the language of the question by its English name (--language Nepali)',
    });
  }
  return encodePrompt(template, { instruction: prompt, input, language: language ?? '' }, tokenizer);
}

/** The token that a template puts after answers, where it is one of its own. */
function endOf(tokenizer: Tokenizer, { end: [first] }: Template): number | undefined {
  return first && 'special' in first ? tokenizer.specialId(first.special) : undefined;
}
