// Messages between the page and its worker: one request, progress reports, one answer.

import type { FrameHead, Hybrid, KvShape, ModelIdentity, Resolution, Validation, Explanation } from "avp-wasm";

/** An error of the package, with the bytes around its offset. */
export interface Trouble {
  code: string;
  message: string;
  offset: number | null;
  /** Whether the offset is in the unpacked payload instead of the file. */
  unpacked: boolean;
  around: { start: number; bytes: Uint8Array } | null;
}

export interface Opened {
  head: FrameHead;
  /** The beginning of the file: header, metadata and a little payload. */
  bytes: Uint8Array;
  size: number;
  /** The unpacked payload; `null` if it cannot be unpacked. */
  payload: Blob | null;
  checksum: { expected: number; actual: number; ok: boolean } | null;
  /** The first chunks, and the number of all chunks; a long text is `cut`. */
  hybrid: { chunks: { kind: Hybrid["chunks"][number]["kind"]; length: number; confidence: number; text: string | null; cut: boolean }[]; count: number } | null;
  kv: KvShape | null;
  /** An error of the payload, if header and metadata are valid. */
  trouble: Trouble | null;
}

/** Norms of the vectors of sampled tokens; `norms` is `[rows.length, tokens.length]`, row-major. */
export interface HeatMap {
  shape: KvShape;
  tokens: number[];
  rows: { layer: number; head: number }[];
  norms: Float32Array;
  sampled: boolean;
}

export interface Comparison {
  identities: [Partial<ModelIdentity>, Partial<ModelIdentity>];
  resolution: Resolution;
  layers: { layer: number; key: Difference; value: Difference }[] | null;
  /** Why `layers` is `null`, or that it is computed from sampled tokens. */
  note: string;
}

export interface Difference {
  maxAbs: number;
  /** The norm of the difference over the norm of the first. */
  relative: number;
}

/** The part of a frame that a comparison needs. */
export type Compared = Pick<Opened, "head" | "payload" | "kv">;

export interface Requests {
  open: { ask: { blob: Blob }; answer: Opened };
  heatMap: { ask: { payload: Blob; tensor: "key" | "value" }; answer: HeatMap };
  compare: { ask: { frames: [Compared, Compared]; hellos: [string, string] }; answer: Comparison };
  packet: { ask: { text: string; strict: boolean }; answer: { validation: Validation; explanation: Explanation | null } };
  sample: { ask: { name: string }; answer: { blob: Blob } };
}
export type Name = keyof Requests;
export type ToWorker = { [N in Name]: { id: number; name: N; what: Requests[N]["ask"] } }[Name];
export type FromWorker =
  | { id: number; progress: number | null }
  | { id: number; answer: Requests[Name]["answer"] }
  | { id: number; trouble: Trouble };

interface Waiting {
  message: ToWorker;
  done(answer: never): void;
  failed(trouble: Trouble): void;
  progress?(part: number | null): void;
}

const waiting = new Map<number, Waiting>();
let worker = start();
let last = 0;

/** Asks the worker. Rejects with a {@link Trouble}; `signal` stops the work. */
export function ask<N extends Name>(
  name: N,
  what: Requests[N]["ask"],
  { signal, progress }: { signal?: AbortSignal; progress?(part: number | null): void } = {},
): Promise<Requests[N]["answer"]> {
  const message = { id: ++last, name, what } as ToWorker;
  return new Promise((done, failed) => {
    if (signal?.aborted) return failed(trouble("cancelled", "stopped"));
    waiting.set(message.id, { message, done, failed, progress });
    signal?.addEventListener("abort", () => stop(message.id), { once: true });
    worker.postMessage(message);
  });
}

/** The worker may be inside a long call, which cannot be interrupted: a new worker takes over the other requests. */
function stop(id: number): void {
  const one = waiting.get(id);
  if (!one) return;
  waiting.delete(id);
  worker.terminate();
  worker = start();
  for (const { message } of waiting.values()) worker.postMessage(message);
  one.failed(trouble("cancelled", "stopped"));
}

function start(): Worker {
  const worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
    const one = waiting.get(data.id);
    if ("progress" in data) return one?.progress?.(data.progress);
    waiting.delete(data.id);
    if ("answer" in data) one?.done(data.answer as never);
    else one?.failed(data.trouble);
  };
  worker.onerror = (event) => {
    for (const one of waiting.values()) one.failed(trouble("worker_failed", event.message || "the worker could not start"));
    waiting.clear();
  };
  return worker;
}

const trouble = (code: string, message: string): Trouble => ({ code, message, offset: null, unpacked: false, around: null });
