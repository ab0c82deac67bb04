// What payloads hold: hybrid chunks and KV-caches.

import type * as api from "../api.js";
import * as check from "./check.js";
import * as core from "./core.js";

const KV_HEADER = 17;
const KINDS = ["text", "latent"] as const;

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true });

export function decodeHybrid(payload: Uint8Array): api.Hybrid {
  const body = check.bytes(payload, "payload");
  const copied = core.copied(body);
  const places: Chunk[] = core.ask((rust) => rust.decodeHybrid(copied));
  const chunks = places.map(({ kind, start, length, confidence }) => {
    return { kind, data: body.subarray(start, start + length), confidence: Number(confidence) };
  });
  const last = (kind: string) => chunks.filter((chunk) => chunk.kind === kind).pop()?.data ?? null;
  const text = last("text");
  return { chunks, text: text && fromUtf8.decode(text), latent: last("latent") };
}

interface Chunk {
  kind: api.HybridChunk["kind"];
  start: number;
  length: number;
  /** A string where JSON has no such number. */
  confidence: number | string;
}

export function encodeHybrid(chunks: readonly api.HybridChunkInit[]): Uint8Array {
  const parts = check.list(chunks, "chunks", (value, name) => {
    const { kind, data, confidence } = check.object(value ?? null, name);
    return {
      kind: kindOf(kind, `${name}.kind`),
      data: typeof data === "string" ? utf8.encode(data) : check.bytes(data, `${name}.data`),
      confidence: check.optional(confidence, `${name}.confidence`, check.number) ?? 0,
    };
  });
  const kinds = Int32Array.from(parts, (part) => part.kind);
  const lengths = Float64Array.from(parts, (part) => part.data.length);
  const confidences = Float32Array.from(parts, (part) => part.confidence);
  const data = core.copied(core.joined(parts.map((part) => part.data)));
  return core.call((rust) => rust.encodeHybrid(kinds, lengths, confidences, data));
}

function kindOf(value: unknown, name: string): number {
  if (typeof value === "number") return check.whole(value, name, 0x7fff_ffff);
  return KINDS.indexOf(check.oneOf(value, name, KINDS));
}

export function encodeKvCache(shape: api.KvShape, layers: readonly api.KvLayer[]): Uint8Array {
  const given = core.json(shape ?? null, "shape");
  const tensors = check.list(layers, "layers", (value, name) => {
    const layer = check.object(value ?? null, name);
    return [check.bytes(layer["key"], `${name}.key`), check.bytes(layer["value"], `${name}.value`)];
  });
  const lengths = Float64Array.from(tensors.flat(), (tensor) => tensor.length);
  return core.joined([core.call((rust) => rust.encodeKv(given, lengths)), ...tensors.flat()]);
}

export class KvCacheView {
  readonly shape: Readonly<api.KvShape>;
  readonly tensorLength: number;
  readonly #payload: Uint8Array;

  constructor(payload: Uint8Array) {
    this.#payload = check.bytes(payload, "payload");
    const header = this.#payload.subarray(0, KV_HEADER);
    const { shape, tensorLength } = core.ask((rust) => rust.decodeKv(header, this.#payload.length));
    this.shape = Object.freeze(shape);
    this.tensorLength = tensorLength;
  }

  layer(index: number): api.KvLayer {
    return { key: this.#tensor(index, "key"), value: this.#tensor(index, "value") };
  }

  typed(layer: number, tensor: "key" | "value"): Float32Array | Uint16Array | null {
    const bytes = this.#tensor(layer, tensor);
    const Numbers = this.shape.dtype === "float32" ? Float32Array : Uint16Array;
    if (!LITTLE_ENDIAN || bytes.byteOffset % Numbers.BYTES_PER_ELEMENT !== 0) return null;
    return new Numbers(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength / Numbers.BYTES_PER_ELEMENT);
  }

  toFloat32(layer: number, tensor: "key" | "value"): Float32Array {
    const bytes = this.#tensor(layer, tensor);
    const { byteOffset, byteLength } = bytes;
    const data = new DataView(bytes.buffer, byteOffset, byteLength);
    const { dtype } = this.shape;
    const size = dtype === "float32" ? 4 : 2;
    const bits = new Uint32Array(byteLength / size);
    for (let index = 0; index < bits.length; index += 1) {
      const at = index * size;
      if (size === 4) bits[index] = data.getUint32(at, true);
      else bits[index] = dtype === "bfloat16" ? data.getUint16(at, true) << 16 : halfToSingle(data.getUint16(at, true));
    }
    return new Float32Array(bits.buffer);
  }

  head(layer: number, tensor: "key" | "value", head: number, start = 0, end = this.shape.seqLen): Uint8Array {
    const bytes = this.#tensor(layer, tensor);
    within(head, "head", this.shape.numKvHeads);
    this.#checkTokens(start, end);
    const [first, row] = [head * this.shape.seqLen, this.#row];
    return bytes.subarray((first + start) * row, (first + end) * row);
  }

  sliceTokens(start: number, end: number): Uint8Array {
    const { numLayers, numKvHeads, seqLen } = this.shape;
    this.#checkTokens(start, end);
    const [row, count] = [this.#row, end - start];
    const length = numKvHeads * count * row;
    const slice = new Uint8Array(KV_HEADER + 2 * numLayers * length);
    slice.set(this.#payload.subarray(0, KV_HEADER));
    new DataView(slice.buffer).setUint32(12, count, true);
    if (length === 0) return slice;
    let to = KV_HEADER;
    // Tensors follow each other and heads too, so all heads of the cache are one row of heads.
    for (let head = 0; head < 2 * numLayers * numKvHeads; head += 1) {
      const from = KV_HEADER + (head * seqLen + start) * row;
      slice.set(this.#payload.subarray(from, from + count * row), to);
      to += count * row;
    }
    return slice;
  }

  /** Bytes of one head's numbers for one token. */
  get #row(): number {
    return this.tensorLength / this.shape.numKvHeads / this.shape.seqLen || 0;
  }

  #checkTokens(start: number, end: number): void {
    check.whole(start, "start");
    check.whole(end, "end");
    const { seqLen } = this.shape;
    if (start > end || end > seqLen) {
      throw new RangeError(`tokens ${start} to ${end} are not within the ${seqLen} tokens of the KV-cache`);
    }
  }

  #tensor(layer: number, tensor: "key" | "value"): Uint8Array {
    within(layer, "layer", this.shape.numLayers);
    const index = 2 * layer + (check.oneOf(tensor, "tensor", ["key", "value"]) === "key" ? 0 : 1);
    const start = KV_HEADER + index * this.tensorLength;
    return this.#payload.subarray(start, start + this.tensorLength);
  }
}

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function within(index: number, name: string, length: number): void {
  check.whole(index, name);
  if (index >= length) throw new RangeError(`${name} ${index} of a KV-cache with ${length}`);
}

/** The bits of a binary16 number as those of a binary32 (IEEE 754): exponents differ by 112, fractions by 13 bits. */
function halfToSingle(half: number): number {
  const [sign, exponent, fraction] = [(half & 0x8000) << 16, (half >> 10) & 0x1f, half & 0x3ff];
  if (exponent === 0x1f) return sign | 0x7f80_0000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // Subnormal: the leading one becomes the hidden bit.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}
