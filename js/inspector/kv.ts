// KV-caches in files: the package decodes the header, and tensors are read one head at a time.

import { DecodeError, encodeKvCache, KvCacheView, type KvShape } from "avp-wasm";
import type { Comparison, HeatMap } from "./protocol.js";
import { read, type Step } from "./pieces.js";

const COLUMNS = 256;
const ROWS = 512;
/** A head with more bytes than this is read row by row. */
const BLOCK = 8 << 20;
const HEADER = 17;
const size = ({ dtype }: KvShape) => (dtype === "float32" ? 4 : 2);

export interface Kv {
  payload: Blob;
  shape: KvShape;
}

/** The cache's shape, from its header. */
export async function openKv(payload: Blob): Promise<Kv> {
  const header = await read(payload, 0, HEADER);
  if (payload.size <= HEADER) return { payload, shape: new KvCacheView(header).shape };
  const numbers = new DataView(header.buffer);
  const [numLayers, seqLen] = [numbers.getUint32(0, true), numbers.getUint32(12, true)];
  // A cache without layers and tokens is its header alone, so the package reads that without tensors in memory.
  const shape = { ...new KvCacheView(header.fill(0, 0, 4).fill(0, 12, 16)).shape, numLayers, seqLen };
  const expected = HEADER + 2 * numLayers * shape.numKvHeads * seqLen * shape.headDim * size(shape);
  if (expected !== payload.size) {
    throw new DecodeError(`the KV-cache header asks for ${expected} bytes, got ${payload.size}`, "kv_shape", 0);
  }
  return { payload, shape };
}

/** Norms over tokens, of each layer and head. */
export async function kvSample(kv: Kv, tensor: "key" | "value", step: Step): Promise<HeatMap> {
  const { shape } = kv;
  const tokens = spread(shape.seqLen, COLUMNS);
  const layers = spread(shape.numLayers, ROWS);
  const heads = spread(shape.numKvHeads, Math.max(1, Math.floor(ROWS / Math.max(1, layers.length))));
  const rows = layers.flatMap((layer) => heads.map((head) => ({ layer, head })));
  const norms = new Float32Array(rows.length * tokens.length);
  for (const [index, { layer, head }] of rows.entries()) {
    if (index % heads.length === 0) step(index / rows.length);
    const vectors = await headAt(kv, layer, tensor, head, tokens);
    for (let token = 0; token < tokens.length; token++) {
      norms[index * tokens.length + token] = norm(vectors.subarray(token * shape.headDim, (token + 1) * shape.headDim));
    }
  }
  const sampled = rows.length < shape.numLayers * shape.numKvHeads || tokens.length < shape.seqLen;
  return { shape, tokens, rows, norms, sampled };
}

/** The difference of two caches with the same layers and heads, over the tokens that both have. */
export async function kvDifference(a: Kv, b: Kv, step: Step): Promise<Pick<Comparison, "layers" | "note">> {
  const { numLayers, numKvHeads } = a.shape;
  const common = Math.min(a.shape.seqLen, b.shape.seqLen);
  if (common * numKvHeads * a.shape.headDim === 0) return { layers: null, note: "The two KV-caches have no numbers in common." };
  const [tokens, shown] = [spread(common, COLUMNS), spread(numLayers, ROWS)];
  const layers: NonNullable<Comparison["layers"]> = [];
  for (const layer of shown) {
    step(layers.length / shown.length);
    const both = { layer, key: { maxAbs: 0, relative: 0 }, value: { maxAbs: 0, relative: 0 } };
    for (const tensor of ["key", "value"] as const) {
      let [difference, first, maxAbs] = [0, 0, 0];
      for (const head of spread(numKvHeads, ROWS)) {
        const [x, y] = await Promise.all([headAt(a, layer, tensor, head, tokens), headAt(b, layer, tensor, head, tokens)]);
        for (let index = 0; index < x.length; index++) {
          const apart = x[index]! - y[index]!;
          difference += apart * apart;
          first += x[index]! * x[index]!;
          maxAbs = Math.max(maxAbs, Math.abs(apart));
        }
      }
      both[tensor] = { maxAbs, relative: difference === 0 ? 0 : Math.sqrt(difference / first) };
    }
    layers.push(both);
  }
  const what = tokens.length < common ? `${tokens.length} of the ${common} tokens` : `the ${common} tokens`;
  const which = shown.length < numLayers ? `, in ${shown.length} of ${numLayers} layers` : "";
  return { layers, note: `Over ${what} that both caches have${which}.` };
}

/** The vectors of these tokens, `[tokens.length, headDim]`, as float32. */
async function headAt({ payload, shape }: Kv, layer: number, tensor: "key" | "value", head: number, tokens: number[]): Promise<Float32Array> {
  const row = shape.headDim * size(shape);
  const length = shape.seqLen * row;
  const start = HEADER + ((2 * layer + (tensor === "key" ? 0 : 1)) * shape.numKvHeads + head) * length;
  const block = length <= BLOCK ? await read(payload, start, start + length) : null;
  const rows = tokens.map((token) => [token * row, (token + 1) * row] as const);
  const parts = await Promise.all(rows.map(([from, to]) => block?.subarray(from, to) ?? read(payload, start + from, start + to)));
  const vectors = new Uint8Array(tokens.length * row);
  for (const [index, part] of parts.entries()) vectors.set(part, index * row);
  // A cache of one head and these tokens: the package widens whatever number format it has.
  const one = { ...shape, numLayers: 1, numKvHeads: 1, seqLen: tokens.length };
  return new KvCacheView(encodeKvCache(one, [{ key: vectors, value: vectors }])).toFloat32(0, "key");
}

/** Up to `most` numbers below `count`, evenly spread, with the first and the last. */
function spread(count: number, most: number): number[] {
  if (count <= most) return Array.from({ length: count }, (_, index) => index);
  return Array.from({ length: most }, (_, index) => Math.round((index * (count - 1)) / Math.max(1, most - 1)));
}

function norm(vector: Float32Array): number {
  return Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
}
