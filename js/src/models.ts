// Models: loaded, asked to think and to generate.

import { resolve } from "node:path";
import type { ModelIdentity, Rule } from "../api.js";
import type * as api from "../runtime.js";
import { answerOf } from "./answer.js";
import * as check from "./check.js";
import { Context, contextOf, withLibrary } from "./contexts.js";
import { type External, addon, value } from "./native.js";
import { duration, json, options, signal } from "./options.js";

const DTYPES = ["fp32", "fp16", "q4", "q4f16", "int8", "uint8", "bnb4", "quantized"] as const;
const LOAD = {
  library: check.text,
  threads: check.whole,
  dtype: (value: unknown, name: string) => check.oneOf(value, name, DTYPES),
  spinning: check.flag,
  queue: check.whole,
  inFlight: check.whole,
};
const CALL = { context: Context.heldBy, signal, timeout: duration, reusePrefix: check.flag };
const THINK = { ...CALL, steps: check.whole, temperature: check.number, diagnostics: check.flag };
const GENERATE = {
  ...CALL,
  maxTokens: check.whole,
  temperature: check.number,
  topK: check.whole,
  topP: check.number,
  minP: check.number,
  repetitionPenalty: check.number,
  frequencyPenalty: check.number,
  presencePenalty: check.number,
  logitBias: biases,
  stop: (value: unknown, name: string) => check.list(value, name, check.text),
  stopTokens: (value: unknown, name: string) => check.list(value, name, token),
  ignoreEndOfTurn: check.flag,
  seed: check.whole,
};

const key = Symbol("model");

export class Model {
  readonly #held: External<"model">;
  readonly #info: { identity: ModelIdentity; window: number };

  constructor(from: typeof key, held: External<"model">) {
    if (from !== key) throw new TypeError("a Model comes from Model.load");
    this.#held = held;
    this.#info = JSON.parse(value(addon.modelInfo(held)));
  }

  static async load(folder: string, options_?: api.LoadOptions): Promise<Model> {
    const request = withLibrary(options(options_, "options", LOAD));
    return new Model(key, value(await addon.modelLoad(resolve(check.text(folder, "folder")), request)));
  }

  get identity(): ModelIdentity {
    return { ...this.#info.identity };
  }
  get window(): number {
    return this.#info.window;
  }

  accepts(context: Context): Rule {
    return value(addon.modelAccepts(this.#held, Context.heldBy(context, "context"))) as Rule;
  }

  async think(prompt: api.Prompt, options_?: api.ThinkOptions): Promise<api.Thought> {
    const asked = promptOf(prompt);
    const { context, signal, ...chosen } = call(options_, THINK);
    signal?.throwIfAborted();
    const stop = addon.newStop();
    const abort = () => addon.stop(stop);
    signal?.addEventListener("abort", abort);
    try {
      const answer = await addon.modelThink(this.#held, asked, json(chosen, "options"), context ?? null, stop);
      // An answer that came before the abort was seen is no longer wanted.
      signal?.throwIfAborted();
      const { about, context: held, lastHiddenState } = value(answer);
      return { context: contextOf(held), lastHiddenState, ...JSON.parse(about) };
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  generate(prompt: api.Prompt, options_?: api.GenerateOptions): api.Answer {
    const asked = promptOf(prompt);
    const { context, signal, ...chosen } = call(options_, GENERATE);
    const request = json(chosen, "options");
    return answerOf(signal, (stop, listener) => {
      addon.modelGenerate(this.#held, asked, request, context ?? null, stop, listener);
    });
  }
}

interface Call {
  context?: External<"context">;
  signal?: AbortSignal;
}

const call = (given: unknown, checks: typeof THINK | typeof GENERATE) => options(given, "options", checks) as Call;

/** A prompt as the addon reads it. */
function promptOf(prompt: unknown): string {
  if (typeof prompt === "string") return json({ text: prompt }, "prompt");
  if (Array.isArray(prompt)) return json({ chat: { messages: messages(prompt, "prompt") } }, "prompt");
  if (typeof prompt !== "object" || prompt === null) {
    throw new TypeError("prompt should be a string, messages, a conversation or { raw }");
  }
  if ("raw" in prompt) return json({ raw: options(prompt, "prompt", { raw: check.text })["raw"] ?? "" }, "prompt");
  const anything = (value: unknown) => value;
  const chat = options(prompt, "prompt", {
    messages,
    tools: (value, name) => check.list(value, name, anything),
    documents: (value, name) => check.list(value, name, anything),
    template: check.text,
    addGenerationPrompt: check.flag,
    variables: check.object,
  });
  return json({ chat: { ...chat, messages: chat["messages"] ?? messages(undefined, "prompt.messages") } }, "prompt");
}

function messages(value: unknown, name: string): unknown[] {
  return check.list(value, name, (one, name) => {
    const message = check.object(one ?? null, name);
    check.text(message["role"], `${name}.role`);
    const { content } = message;
    if (content !== undefined && content !== null && typeof content !== "string" && !Array.isArray(content)) {
      throw new TypeError(`${name}.content should be a string, an array of parts, or null`);
    }
    return message;
  });
}

function token(value: unknown, name: string): number {
  return check.whole(value, name, check.U32);
}

/** JSON has no infinities: `null` stands for the negative one. */
function biases(value: unknown, name: string): [number, number | null][] {
  return Object.entries(check.object(value, name)).map(([id, bias]) => {
    const number = bias === -Infinity ? null : check.number(bias, `${name}[${id}]`);
    return [token(Number(id), `a key of ${name}`), number];
  });
}
