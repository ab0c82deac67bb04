/**
 * Models that think and generate, in Node: what `avp-node` has beside the API that it shares with `avp-wasm`.
 *
 * ```js
 * import { Model } from "avp-node";
 *
 * const model = await Model.load("models/facts");
 * const { context } = await model.think("Notes: Rosa lives in Lisbon. Rosa has a parrot.");
 * for await (const piece of model.generate("Where does Rosa live?", { context })) process.stdout.write(piece);
 * ```
 *
 * The work is done off the event loop, and nothing needs to be closed: memory is given back when nothing refers to it. Times
 * are in milliseconds. What goes wrong is a {@link RuntimeError}; a call that is aborted throws its signal's reason.
 * @packageDocumentation
 */

import type { AvpError, Dialect, KvShape, ModelIdentity, Rule } from "./api.js";

/** A model that cannot be loaded, a run that did not finish, a context that cannot be used. `code` is the Rust runtime's name. */
export declare class RuntimeError extends AvpError {}

/** Where the ONNX Runtime library is, for the first call that needs it; the process then keeps it. */
export interface LibraryOptions {
  /**
   * The library's file. By default it is `ORT_DYLIB_PATH`, else looked for as the Rust runtime does (the `onnxruntime` package of
   * the Python on the `PATH`, the system's loader), else in an installed `onnxruntime-node`.
   */
  library?: string;
}

export interface LoadOptions extends LibraryOptions {
  /** Threads of one run; 0 leaves it to ONNX Runtime, which takes the physical cores. @defaultValue 0 */
  threads?: number;
  /** Which form of the model, where the folder holds several. @defaultValue that of `model.onnx` */
  dtype?: "fp32" | "fp16" | "q4" | "q4f16" | "int8" | "uint8" | "bnb4" | "quantized";
  /** Whether threads without work wait for it awake, which starts them sooner and takes a core. @defaultValue true */
  spinning?: boolean;
  /** Calls that may wait for their turn; one more is refused with `busy`. @defaultValue 64 */
  queue?: number;
  /** Calls that take turns, token by token; each holds its KV-cache in memory. @defaultValue 8 */
  inFlight?: number;
}

/** A message as the chat APIs have it, with whatever else the model's chat template looks at. */
export interface Message {
  /** `system`, `user`, `assistant`, `tool` or what else the template knows. */
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** A conversation, and what a chat template may be told beside it. */
export interface Chat {
  messages: readonly Message[];
  /** Functions that the model may call, as JSON schemas. */
  tools?: readonly unknown[];
  /** Texts to answer from, each with a `title` and a `text`. */
  documents?: readonly unknown[];
  /** Which of several templates. */
  template?: string;
  /** Whether the template opens the assistant's turn. @defaultValue true */
  addGenerationPrompt?: boolean;
  /** What else the template looks at, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

/** Text as one user message, messages, a conversation, or text that passes no template. */
export type Prompt = string | readonly Message[] | Chat | { raw: string };

export interface CallOptions {
  /** What is read before the prompt. It stays as it was and can be used again. */
  context?: Context | null;
  /** Ends the call. */
  signal?: AbortSignal | null;
  /** Give up after this many milliseconds, with `timed_out`. @defaultValue none */
  timeout?: number;
  /** Read the prompt from its first token on: what it has in common with the context is not computed again. @defaultValue false */
  reusePrefix?: boolean;
}

export interface ThinkOptions extends CallOptions {
  /** Latent steps to take behind the prompt; with 0 it is only read. @defaultValue 20 */
  steps?: number;
  /**
   * What the logits are divided by in a latent step: below 1 it comes nearer to the likeliest token. Only models with tied
   * embeddings take another than 1. @defaultValue 1
   */
  temperature?: number;
  /** Whether to measure the norm of the hidden state at each step. @defaultValue false */
  diagnostics?: boolean;
}

/** What a call read. */
export interface Usage {
  promptTokens: number;
  /** Tokens of the prompt that were in the context already. */
  reusedTokens: number;
  /** Tokens of the context, none of them evaluated again. */
  contextTokens: number;
}

export interface Thought extends Usage {
  /** All that was read and thought. */
  context: Context;
  /** The hidden state of the last position after the final norm: `hiddenDim` numbers. */
  lastHiddenState: Float32Array;
  numSteps: number;
  /** With `diagnostics`, norms behind the prompt and behind each step; else none. */
  hiddenNorms: number[];
  /** From the first run to the end of the prompt. */
  promptTime: number;
  totalTime: number;
}

/** How to generate. By default the same prompt gives the same text. The Rust documentation says what is applied in which order. */
export interface GenerateOptions extends CallOptions {
  /** @defaultValue 512 */
  maxTokens?: number;
  /** 0 takes the likeliest token. @defaultValue 0 */
  temperature?: number;
  /** Draw only from that many likeliest tokens; 0 takes all. @defaultValue 0 */
  topK?: number;
  /** Draw only from the likeliest tokens that together have this probability. @defaultValue 1 */
  topP?: number;
  /** Draw only from tokens at least this fraction as likely as the likeliest. @defaultValue 0 */
  minP?: number;
  /** Above 1 makes tokens of the prompt and the answer less likely. @defaultValue 1 */
  repetitionPenalty?: number;
  /** Subtracted from a token's logit for each time it is in the answer, from -2 to 2. @defaultValue 0 */
  frequencyPenalty?: number;
  /** Subtracted from the logit of each token that is in the answer, from -2 to 2. @defaultValue 0 */
  presencePenalty?: number;
  /** Added to the logits of these token ids; `-Infinity` forbids a token. */
  logitBias?: Readonly<Record<number, number>>;
  /** Texts that end the answer; they are not part of it. */
  stop?: readonly string[];
  /** Token ids that end the answer beside the model's own. */
  stopTokens?: readonly number[];
  /** Go on where the model would end its turn, for measuring. @defaultValue false */
  ignoreEndOfTurn?: boolean;
  /** Seeds the draw. @defaultValue 0 */
  seed?: number;
}

/** Why an answer ended; `"stopped"` where its reader left the loop. */
export type Finish = "end_of_turn" | "stop" | "max_tokens" | "window" | "stopped";

export interface Generation extends Usage {
  /** The text, without what ended it. */
  text: string;
  /** All generated tokens. */
  tokens: number[];
  finish: Finish;
  /** From the call to the first token. */
  firstTokenTime: number;
  totalTime: number;
  /** From the first token to the last; `null` before the second. */
  tokensPerSecond: number | null;
}

/**
 * An answer on its way. Loop over it for pieces of text, each of whole characters; `await` it for the whole. Both work, in either
 * order. Leaving the loop stops the model.
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
  /** Who the model is, for handshakes. */
  readonly identity: ModelIdentity;
  /** Tokens the model can attend to. */
  readonly window: number;
  /**
   * The handshake's rule by which a context fits this model.
   * @throws {RuntimeError} `other_model` where it does not.
   */
  accepts(context: Context): Rule;
  /** Reads `prompt` behind a context, takes latent steps, and gives all of it as a new context. */
  think(prompt: Prompt, options?: ThinkOptions): Promise<Thought>;
  /** Reads `prompt` behind a context and generates text until the model ends its turn. */
  generate(prompt: Prompt, options?: GenerateOptions): Answer;
}

export interface ContextFrameOptions {
  sessionId?: string;
  sourceAgentId?: string;
  targetAgentId?: string;
  /** Written instead of ours, for peers that hash a config of their own making. */
  modelHash?: string;
  /** @defaultValue "0.3" */
  dialect?: Dialect;
  /** The first tensor byte lies at a multiple of this, a power of two up to 4096. @defaultValue 64 */
  alignment?: number;
  /** @defaultValue false */
  compress?: boolean;
  /** Whether to write a checksum. @defaultValue where the dialect has one */
  checksum?: boolean;
  /** Whether to say which weights made the context, so that it fits no others. @defaultValue false */
  fingerprint?: boolean;
  /** Whether to say which tokens it was computed from: whoever has them can read the text. @defaultValue false */
  tokenIds?: boolean;
}

export interface ContextReadOptions extends LibraryOptions {
  /** Whether to compare the checksum, where there is one. @defaultValue true */
  verify?: boolean;
  /** Whether to look at every number and refuse NaN and infinities. @defaultValue false */
  scan?: boolean;
  /** The most bytes that a compressed body may unpack to. @defaultValue 1073741824 (1 GiB) */
  limit?: number;
}

export interface FromFrameOptions extends ContextReadOptions {
  /**
   * Whether to take the bytes' buffer over and not copy it: the whole of it is then detached, as by `postMessage`. Tensors that
   * are aligned, as {@link Context.toFrame} leaves them, are used where they lie. A buffer that cannot be detached, such as that of a small `Buffer` or
   * of a frame from {@link Context.toFrame}, is copied. @defaultValue false
   */
  transfer?: boolean;
}

/** A KV-cache with what is known of its making; never changed, so two agents can continue from the same one. */
export declare class Context {
  private constructor();
  /** Reads a context from a frame of either dialect. Whether it fits a model is decided where it is used. */
  static fromFrame(bytes: Uint8Array, options?: FromFrameOptions): Promise<Context>;
  /** Reads a context from a file, which must stay as it is while the context is used. */
  static load(path: string, options?: ContextReadOptions): Promise<Context>;
  /** Tokens and latent steps in the cache. */
  readonly seqLen: number;
  /** Latent steps taken on the way here. */
  readonly numSteps: number;
  /** The model that computed it. */
  readonly identity: ModelIdentity;
  readonly shape: KvShape;
  /** The token at each position, `null` where a latent step stands; `null` altogether where the sender did not say. */
  readonly tokens: (number | null)[] | null;
  /** Writes the context as a frame, which every AVP peer reads. */
  toFrame(options?: ContextFrameOptions): Promise<Uint8Array>;
  /** Writes the context to a file, which no reader sees half written. */
  save(path: string, options?: ContextFrameOptions): Promise<void>;
}
