/**
 * Models that think and generate in Node: the part of the `avp-node` API that `avp-wasm` lacks.
 *
 * ```js
 * import { Model } from "avp-node";
 *
 * const model = await Model.load("models/facts");
 * const { context } = await model.think("Notes: Rosa lives in Lisbon. Rosa has a parrot.");
 * for await (const piece of model.generate("Where does Rosa live?", { context })) process.stdout.write(piece);
 * ```
 *
 * Models run on their own threads, and nothing needs to be closed: memory is freed with the last reference. Times are in
 * milliseconds. Failures throw a {@link RuntimeError}; an aborted call throws the reason of its signal.
 * @packageDocumentation
 */

import type { AvpError, Dialect, KvShape, ModelIdentity, Rule } from "./api.js";

/** A failure of a model or context. `code` is the name of the error in the Rust runtime. */
export declare class RuntimeError extends AvpError {}

/** The location of the ONNX Runtime library. The first call that needs the library loads it for the whole process. */
export interface LibraryOptions {
  /**
   * Path of the library. By default `ORT_DYLIB_PATH`, then the `onnxruntime` package of the Python on the `PATH`, then the
   * system's loader, then an installed `onnxruntime-node`.
   */
  library?: string;
}

export interface LoadOptions extends LibraryOptions {
  /** Threads of one run; 0 lets ONNX Runtime use the physical cores. @defaultValue 0 */
  threads?: number;
  /** The variant of the model, if the folder has several. @defaultValue that of `model.onnx` */
  dtype?: "fp32" | "fp16" | "q4" | "q4f16" | "int8" | "uint8" | "bnb4" | "quantized";
  /** Whether idle threads spin: they start sooner and occupy a core. @defaultValue true */
  spinning?: boolean;
  /** Longest queue of waiting calls; a further call fails with `busy`. @defaultValue 64 */
  queue?: number;
  /** Calls that run interleaved, token by token. Each has its KV-cache in memory. @defaultValue 8 */
  inFlight?: number;
}

/** A chat message. Further fields are passed to the model's chat template. */
export interface Message {
  /** `system`, `user`, `assistant`, `tool` or another role that the template supports. */
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** A conversation, with options of the chat template. */
export interface Chat {
  messages: readonly Message[];
  /** Functions that the model may call, as JSON schemas. */
  tools?: readonly unknown[];
  /** Texts to answer from, each with a `title` and a `text`. */
  documents?: readonly unknown[];
  /** Name of the template, if the model has several. */
  template?: string;
  /** Whether the template opens the assistant's turn. @defaultValue true */
  addGenerationPrompt?: boolean;
  /**
   * Whether the messages go on in a context that ends between two turns, as after a call with `addGenerationPrompt: false`: the
   * template's beginning is then not repeated. @defaultValue false
   */
  continues?: boolean;
  /**
   * Whether the texts of special tokens in messages, tools and documents are text, so that no message can end its turn and begin
   * another one. @defaultValue false
   */
  specialTokensAsText?: boolean;
  /** Further variables of the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/** Text as one user message, messages, a conversation, or raw text without a template. */
export type Prompt = string | readonly Message[] | Chat | { raw: string };

export interface CallOptions {
  /** The context before the prompt. It is not changed and can be reused. */
  context?: Context | null;
  /** Aborts the call. */
  signal?: AbortSignal | null;
  /** Fails with `timed_out` after this many milliseconds. @defaultValue none */
  timeout?: number;
  /** Whether the prompt includes the text of the context; the common prefix is not computed again. @defaultValue false */
  reusePrefix?: boolean;
}

export interface ThinkOptions extends CallOptions {
  /**
   * Latent steps after the prompt. 0 only reads the prompt: steps in the peer's form destroy the context of the real models that were
   * tried. `"auto"` takes what `avp calibrate` found for the model, and fails with `not_calibrated` where it was not run.
   * @defaultValue 0
   */
  steps?: number | "auto";
  /**
   * The vector that a step feeds: `peer`, `hidden`, `token`, `soft` or `mixed`, the last two with options as in
   * `soft:temperature=0.3,top_k=8,rescale` and `mixed:hidden=0.5`. Not with automatic steps. @defaultValue "peer"
   */
  form?: string;
  /** Whether to measure the norm of the hidden state at each step. @defaultValue false */
  diagnostics?: boolean;
}

/** Token counts of a call. */
export interface Usage {
  promptTokens: number;
  /** Tokens of the prompt that were already in the context. */
  reusedTokens: number;
  /** Tokens of the context, which are not evaluated again. */
  contextTokens: number;
}

export interface Thought extends Usage {
  /** The context after the call: previous context, prompt and latent steps. */
  context: Context;
  /** The hidden state of the last position after the final norm: `hiddenDim` numbers. */
  lastHiddenState: Float32Array;
  numSteps: number;
  /** With `diagnostics`, the norms after the prompt and after each step; otherwise empty. */
  hiddenNorms: number[];
  /** Time to read the prompt. */
  promptTime: number;
  totalTime: number;
}

/** Sampling options. By default the same prompt gives the same text. The Rust documentation describes the order of the steps. */
export interface GenerateOptions extends CallOptions {
  /** @defaultValue 512 */
  maxTokens?: number;
  /** 0 takes the likeliest token. @defaultValue 0 */
  temperature?: number;
  /** Sample from this many likeliest tokens; 0 for all. @defaultValue 0 */
  topK?: number;
  /** Sample from the likeliest tokens with this total probability. @defaultValue 1 */
  topP?: number;
  /** Sample from tokens at least this fraction as likely as the likeliest. @defaultValue 0 */
  minP?: number;
  /** Values above 1 make tokens of the prompt and the answer less likely. @defaultValue 1 */
  repetitionPenalty?: number;
  /** Subtracted from a token's logit for each time it is in the answer, from -2 to 2. @defaultValue 0 */
  frequencyPenalty?: number;
  /** Subtracted from the logit of each token that is in the answer, from -2 to 2. @defaultValue 0 */
  presencePenalty?: number;
  /** Added to the logits of these token ids; `-Infinity` forbids a token. */
  logitBias?: Readonly<Record<number, number>>;
  /** Texts that end the answer; they are not part of it. */
  stop?: readonly string[];
  /** Token ids that end the answer, in addition to the model's own. */
  stopTokens?: readonly number[];
  /** Continue when the model would end its turn, for benchmarks. @defaultValue false */
  ignoreEndOfTurn?: boolean;
  /** Seed of the sampler. @defaultValue 0 */
  seed?: number;
}

/** Why an answer ended; `"stopped"` if the loop over it was left. */
export type Finish = "end_of_turn" | "stop" | "max_tokens" | "window" | "stopped";

export interface Generation extends Usage {
  /** The text, without the stop text. */
  text: string;
  /** All generated tokens. */
  tokens: number[];
  finish: Finish;
  /** Time from the call to the first token. */
  firstTokenTime: number;
  totalTime: number;
  /** Rate from the first token to the last; `null` for fewer than two tokens. */
  tokensPerSecond: number | null;
}

/**
 * A generation in progress. Iterate for pieces of text, each of whole characters; `await` for the whole result. Both work, in
 * either order. Leaving the loop stops the model.
 */
export interface Answer extends AsyncIterable<string>, PromiseLike<Generation> {}

/** A decoder with its tokenizer and chat template. */
export declare class Model {
  private constructor();
  /**
   * Loads a folder with `config.json`, `tokenizer.json` and `model.onnx`. The graph is prepared once and kept under
   * `AVP_CACHE_DIR`, else in the user's cache folder.
   * @throws {RuntimeError} `library_not_found` without ONNX Runtime; `missing_file`, `prepare` and others.
   */
  static load(folder: string, options?: LoadOptions): Promise<Model>;
  /** The model's identity, for handshakes. */
  readonly identity: ModelIdentity;
  /** Context window, in tokens. */
  readonly window: number;
  /**
   * The handshake rule by which a context fits this model.
   * @throws {RuntimeError} `other_model` if it does not fit.
   */
  accepts(context: Context): Rule;
  /** Reads `prompt` after a context, takes latent steps, and returns a new context. */
  think(prompt: Prompt, options?: ThinkOptions): Promise<Thought>;
  /** Reads `prompt` after a context and generates text until the model ends its turn. */
  generate(prompt: Prompt, options?: GenerateOptions): Answer;
}

export interface ContextFrameOptions {
  sessionId?: string;
  sourceAgentId?: string;
  targetAgentId?: string;
  /** Written instead of the model's own hash, for peers that hash a different config. */
  modelHash?: string;
  /** @defaultValue "0.3" */
  dialect?: Dialect;
  /** The first tensor byte is at a multiple of this offset: a power of two up to 4096. @defaultValue 64 */
  alignment?: number;
  /** @defaultValue false */
  compress?: boolean;
  /** Whether to write a checksum. @defaultValue `true` in dialect 0.3, which has one */
  checksum?: boolean;
  /** Whether to write a fingerprint of the weights, so that the context fits only these. @defaultValue false */
  fingerprint?: boolean;
  /** Whether to write the token ids, from which the text can be read. @defaultValue false */
  tokenIds?: boolean;
}

export interface ContextReadOptions extends LibraryOptions {
  /** Whether to verify the checksum, if there is one. @defaultValue true */
  verify?: boolean;
  /** Whether to refuse NaN and infinities anywhere in the cache. @defaultValue false */
  scan?: boolean;
  /** Longest uncompressed payload, in bytes. @defaultValue 1073741824 (1 GiB) */
  limit?: number;
}

export interface FromFrameOptions extends ContextReadOptions {
  /**
   * Whether to transfer the buffer of the bytes instead of copying it. The whole buffer is then detached, as by `postMessage`.
   * Aligned tensors, as {@link Context.toFrame} writes them, are used in place. A buffer that cannot be detached, such as that
   * of a small `Buffer` or of a frame from {@link Context.toFrame}, is copied. @defaultValue false
   */
  transfer?: boolean;
}

/** A KV-cache with its origin. It is immutable, so several agents can continue from the same one. */
export declare class Context {
  private constructor();
  /** Reads a context from a frame of either dialect. Whether it fits a model is checked on use. */
  static fromFrame(bytes: Uint8Array, options?: FromFrameOptions): Promise<Context>;
  /** Reads a context from a file, which must not change while the context is used. */
  static load(path: string, options?: ContextReadOptions): Promise<Context>;
  /** Tokens and latent steps in the cache. */
  readonly seqLen: number;
  /** Latent steps in the cache. */
  readonly numSteps: number;
  /** The model that computed it. */
  readonly identity: ModelIdentity;
  readonly shape: KvShape;
  /** The token at each position, `null` for a latent step; `null` if the sender wrote no tokens. */
  readonly tokens: (number | null)[] | null;
  /** Writes the context as a frame, which every AVP peer reads. */
  toFrame(options?: ContextFrameOptions): Promise<Uint8Array>;
  /** Writes the context to a file atomically. */
  save(path: string, options?: ContextFrameOptions): Promise<void>;
}
