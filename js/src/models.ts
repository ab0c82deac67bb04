// Models: loading, latent steps and generation.

import { resolve } from "node:path";
import type { ModelIdentity, Rule } from "../api.js";
import type * as api from "../runtime.js";
import { answerOf } from "./answer.js";
import * as check from "./check.js";
import * as core from "./core.js";
import { Context, contextOf, libraryOptions } from "./contexts.js";
import { type External, addon, value } from "./native.js";

const key = Symbol("model");

export class Model {
  readonly #held: External<"model">;
  readonly #info: { identity: ModelIdentity; window: number };

  constructor(from: typeof key, held: External<"model">) {
    if (from !== key) throw new TypeError("a Model comes from Model.load");
    this.#held = held;
    this.#info = JSON.parse(value(addon.modelInfo(held)));
  }

  static async load(folder: string, options?: api.LoadOptions): Promise<Model> {
    const { library, ...chosen } = check.object(options, "options");
    const request = core.json(chosen, "options");
    return new Model(key, value(await addon.modelLoad(resolve(check.text(folder, "folder")), request, libraryOptions(library))));
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

  async think(prompt: api.Prompt, options?: api.ThinkOptions): Promise<api.Thought> {
    const asked = promptOf(prompt);
    const { context, signal, request } = callOf(options);
    signal?.throwIfAborted();
    const stop = addon.newStop();
    const abort = () => addon.stop(stop);
    signal?.addEventListener("abort", abort);
    try {
      const answer = await addon.modelThink(this.#held, asked, request, context, stop);
      // The call may have finished before the abort was noticed.
      signal?.throwIfAborted();
      const { about, context: held, lastHiddenState } = value(answer);
      return { context: contextOf(held), lastHiddenState, ...JSON.parse(about) };
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  generate(prompt: api.Prompt, options?: api.GenerateOptions): api.Answer {
    const asked = promptOf(prompt);
    const { context, signal, request } = callOf(options);
    return answerOf(signal, (stop, listener) => {
      addon.modelGenerate(this.#held, asked, request, context, stop, listener);
    });
  }
}

interface Call {
  context: External<"context"> | null;
  signal: AbortSignal | undefined;
  /** The other options as JSON, which Rust checks. */
  request: string;
}

function callOf(options: unknown): Call {
  const { context, signal, logitBias, ...chosen } = check.object(options, "options");
  return {
    context: check.optional(context, "options.context", Context.heldBy),
    signal: check.optional(signal, "options.signal", abortSignal) ?? undefined,
    request: core.json({ ...chosen, logitBias: check.optional(logitBias, "options.logitBias", biases) }, "options"),
  };
}

function abortSignal(value: unknown, name: string): AbortSignal {
  if (value instanceof AbortSignal) return value;
  throw new TypeError(`${name}: expected an AbortSignal`);
}

/** A prompt as JSON. Rust checks everything but the messages. */
function promptOf(prompt: unknown): string {
  if (typeof prompt === "string") return core.stringify({ text: prompt });
  if (Array.isArray(prompt)) return written({ messages: messages(prompt, "prompt") });
  if (typeof prompt !== "object" || prompt === null) {
    throw new TypeError("prompt: expected a string, messages, a conversation or { raw }");
  }
  const given = Object.fromEntries(Object.entries(prompt).filter(([, value]) => value !== undefined && value !== null));
  return written("raw" in given ? given : { ...given, messages: messages(given["messages"], "prompt.messages") });
}

function written(prompt: object): string {
  try {
    return core.stringify(prompt);
  } catch (error) {
    throw new TypeError("prompt: expected JSON values", { cause: error });
  }
}

function messages(value: unknown, name: string): unknown[] {
  return check.list(value, name, (one, name) => {
    const message = check.object(one ?? null, name);
    check.text(message["role"], `${name}.role`);
    const { content } = message;
    if (content !== undefined && content !== null && typeof content !== "string" && !Array.isArray(content)) {
      throw new TypeError(`${name}.content: expected a string, an array of parts or null`);
    }
    return message;
  });
}

function token(value: unknown, name: string): number {
  return check.whole(value, name, check.U32);
}

/** JSON has no infinities: `null` means `-Infinity`. */
function biases(value: unknown, name: string): [number, number | null][] {
  return Object.entries(check.object(value, name)).map(([id, bias]) => {
    const number = bias === -Infinity ? null : check.number(bias, `${name}[${id}]`);
    return [token(Number(id), `a key of ${name}`), number];
  });
}
