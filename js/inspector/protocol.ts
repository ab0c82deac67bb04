// What the page and its worker say to each other: one request, any progress, one answer.

import type { FrameHead, Hybrid, KvShape, ModelIdentity, Resolution, Validation, Explanation } from "avp-wasm";

/** What is wrong, as the package says it, with the bytes around that place. */
export interface Trouble {
  code: string;
  message: string;
  offset: number | null;
  around: { start: number; bytes: Uint8Array } | null;
}

export interface Opened {
  head: FrameHead;
  /** The beginning of the file: header, metadata and a little payload. */
  bytes: Uint8Array;
  size: number;
  checksum: { expected: number; actual: number; ok: boolean } | null;
  /** Bytes of the payload when uncompressed. */
  unpackedLength: number;
  hybrid: { kind: Hybrid["chunks"][number]["kind"]; length: number; confidence: number; text: string | null }[] | null;
  kv: KvShape | null;
  /** What is wrong with the payload, where header and metadata are right. */
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
  layers: { key: Difference; value: Difference }[] | null;
  /** Why there is no difference by layer, or that it is of sampled tokens. */
  note: string;
}
export interface Difference {
  maxAbs: number;
  /** The norm of the difference over the norm of the first. */
  relative: number;
}

/** A frame to open: a file, or bytes made into one. */
export interface Requests {
  open: { ask: { blob: Blob }; answer: Opened };
  heatMap: { ask: { blob: Blob; tensor: "key" | "value" }; answer: HeatMap };
  compare: { ask: { blobs: [Blob, Blob]; hellos: [string, string] }; answer: Comparison };
  packet: { ask: { text: string; strict: boolean }; answer: { validation: Validation; explanation: Explanation | null } };
  sample: { ask: { name: string }; answer: { blob: Blob } };
}
export type Name = keyof Requests;
export type FromWorker =
  | { id: number; progress: number }
  | { id: number; answer: Requests[Name]["answer"] }
  | { id: number; trouble: Trouble };

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map<number, { done(answer: never): void; failed(trouble: Trouble): void; progress?(part: number): void }>();
let last = 0;

worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
  const one = waiting.get(data.id);
  if ("progress" in data) return one?.progress?.(data.progress);
  waiting.delete(data.id);
  if ("answer" in data) one?.done(data.answer as never);
  else one?.failed(data.trouble);
};
worker.onerror = (event) => {
  const trouble = { code: "worker_failed", message: event.message || "the worker could not start", offset: null, around: null };
  for (const one of waiting.values()) one.failed(trouble);
  waiting.clear();
};

/** Asks the worker. Rejects with a {@link Trouble}; `signal` stops the work. */
export function ask<N extends Name>(
  name: N,
  what: Requests[N]["ask"],
  options: { signal?: AbortSignal; progress?(part: number): void } = {},
): Promise<Requests[N]["answer"]> {
  const id = ++last;
  options.signal?.addEventListener("abort", () => worker.postMessage({ id, name: "cancel" }));
  return new Promise((done, failed) => {
    waiting.set(id, { done, failed, progress: options.progress });
    worker.postMessage({ id, name, what });
  });
}
