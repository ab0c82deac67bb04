// KV-caches that stay in their file: where a tensor lies is asked of a view over memory that is never touched, and what a
// picture needs is read a head at a time.

import { encodeKvCache, KvCacheView } from "avp-wasm";
import type { Comparison, Difference, HeatMap } from "./protocol.js";
import { read, type Step } from "./pieces.js";

const COLUMNS = 256;
const ROWS = 512;
/** A head with more bytes than this is read row by row. */
const BLOCK = 8 << 20;

export interface Kv {
  payload: Blob;
  view: KvCacheView;
}

/** The cache's shape and places; only its header is read. */
export async function openKv(payload: Blob): Promise<Kv> {
  // Memory that nobody writes to is only promised by the system, so this costs next to nothing.
  const bytes = new Uint8Array(payload.size);
  bytes.set(await read(payload, 0, 64));
  return { payload, view: new KvCacheView(bytes) };
}

/** Norms over tokens, of each layer and head. */
export async function kvSample(kv: Kv, tensor: "key" | "value", step: Step): Promise<HeatMap> {
  const { shape } = kv.view;
  const tokens = spread(shape.seqLen, COLUMNS);
  const layers = spread(shape.numLayers, ROWS);
  const heads = spread(shape.numKvHeads, Math.max(1, Math.floor(ROWS / Math.max(1, layers.length))));
  const rows = layers.flatMap((layer) => heads.map((head) => ({ layer, head })));
  const norms = new Float32Array(rows.length * tokens.length);
  for (const [index, { layer, head }] of rows.entries()) {
    if (index % heads.length === 0) await step(index / rows.length);
    const vectors = await headAt(kv, layer, tensor, head, tokens);
    for (let token = 0; token < tokens.length; token++) {
      norms[index * tokens.length + token] = norm(vectors.subarray(token * shape.headDim, (token + 1) * shape.headDim));
    }
  }
  const sampled = rows.length < shape.numLayers * shape.numKvHeads || tokens.length < shape.seqLen;
  return { shape, tokens, rows, norms, sampled };
}

/** How far two caches of the same layers and heads are apart, over the tokens that both have. */
export async function kvDifference(a: Kv, b: Kv, step: Step): Promise<Pick<Comparison, "layers" | "note">> {
  const { numLayers, numKvHeads } = a.view.shape;
  const common = Math.min(a.view.shape.seqLen, b.view.shape.seqLen);
  const tokens = spread(common, COLUMNS);
  const layers: { key: Difference; value: Difference }[] = [];
  for (let layer = 0; layer < numLayers; layer++) {
    await step(layer / numLayers);
    const both = { key: { maxAbs: 0, relative: 0 }, value: { maxAbs: 0, relative: 0 } };
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
  return { layers, note: `Over ${what} that both caches have.` };
}

/** The vectors of these tokens, `[tokens.length, headDim]`, as float32. */
async function headAt({ payload, view }: Kv, layer: number, tensor: "key" | "value", head: number, tokens: number[]): Promise<Float32Array> {
  const { byteOffset, byteLength } = view.head(layer, tensor, head);
  const { seqLen } = view.shape;
  const row = seqLen === 0 ? 0 : byteLength / seqLen;
  const block = byteLength <= BLOCK ? await read(payload, byteOffset, byteOffset + byteLength) : null;
  const vectors = new Uint8Array(tokens.length * row);
  for (const [index, token] of tokens.entries()) {
    const at = token * row;
    vectors.set(block?.subarray(at, at + row) ?? (await read(payload, byteOffset + at, byteOffset + at + row)), index * row);
  }
  // A cache of one head and these tokens: the package widens whatever number format it has.
  const shape = { ...view.shape, numLayers: 1, numKvHeads: 1, seqLen: tokens.length };
  return new KvCacheView(encodeKvCache(shape, [{ key: vectors, value: vectors }])).toFloat32(0, "key");
}

/** At most `most` of the numbers below `count`, evenly spread, the first and the last among them. */
function spread(count: number, most: number): number[] {
  if (count <= most) return Array.from({ length: count }, (_, index) => index);
  return Array.from({ length: most }, (_, index) => Math.round((index * (count - 1)) / Math.max(1, most - 1)));
}

function norm(vector: Float32Array): number {
  return Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
}
