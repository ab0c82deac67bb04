// Everything that uses the package runs here, so that the page never waits. Files are read piece by piece.

import {
  AvpError, crc32, decode, decodeHeader, decodeHybrid, DecodeError, explainPacket, parseHello, resolve,
  unpack, validatePacket, type FrameHead, type KvShape, type Metadata, type ModelIdentity,
} from "avp-wasm";
import { kvDifference, kvSample, openKv, type Kv } from "./kv.js";
import { read, type Step } from "./pieces.js";
import type { Comparison, HeatMap, Name, Opened, Requests, Trouble } from "./protocol.js";
import { sample } from "./samples.js";

const WHOLE = 32 << 20;
const PIECE = 4 << 20;
const LIMIT = 512 << 20;
const PREVIEW = 256;
const cancelled = new Set<number>();
const running = new Set<number>();

const work: { [N in Name]: (what: Requests[N]["ask"], step: Step) => Promise<Requests[N]["answer"]> } = {
  open,
  heatMap,
  compare,
  sample: async ({ name }) => ({ blob: sample(name) }),
  packet: async ({ text, strict }) => ({
    validation: validatePacket(text, { profile: strict ? "strict" : "lenient" }),
    explanation: attempt(() => explainPacket(text)),
  }),
};

self.onmessage = async ({ data }: MessageEvent<{ id: number; name: Name | "cancel"; what: never }>) => {
  const { id, name, what } = data;
  if (name === "cancel") return void (running.has(id) && cancelled.add(id));
  const step: Step = async (part) => {
    self.postMessage({ id, progress: part });
    await new Promise((next) => setTimeout(next));
    if (cancelled.has(id)) throw new AvpError("stopped", "cancelled");
  };
  running.add(id);
  try {
    self.postMessage({ id, answer: await work[name](what, step) });
  } catch (error) {
    self.postMessage({ id, trouble: await describe(error, (what as { blob?: Blob }).blob) });
  } finally {
    running.delete(id);
    cancelled.delete(id);
  }
};

async function open({ blob }: Requests["open"]["ask"], step: Step): Promise<Opened> {
  const head = await readHead(blob);
  const bytes = await read(blob, 0, Math.min(blob.size, head.payloadOffset + PREVIEW));
  const opened: Opened = {
    head, bytes, size: blob.size, checksum: null, unpackedLength: blob.size - head.payloadOffset, hybrid: null, kv: null, trouble: null,
  };
  try {
    const payload = await uncompressed(blob, head);
    opened.unpackedLength = payload.size;
    opened.checksum = await compareChecksum(payload, head, step);
    if (head.metadata.mode === "hybrid") opened.hybrid = hybridChunks(await read(payload, 0, payload.size));
    else if (head.metadata.payloadType === "kv_cache") opened.kv = (await openKv(payload)).view.shape;
    if (opened.checksum && !opened.checksum.ok) {
      throw new DecodeError("the payload is not what its checksum says", "checksum_mismatch", head.payloadOffset);
    }
  } catch (error) {
    if (error instanceof AvpError && error.code === "cancelled") throw error;
    opened.trouble = await describe(error, blob);
  }
  return opened;
}

/** Reads as much as header and metadata need. A small file is decoded whole; of a large one the length alone is compared. */
async function readHead(blob: Blob): Promise<FrameHead> {
  if (blob.size <= WHOLE) return decode(await read(blob, 0, blob.size));
  for (let length = 64 << 10; ; length *= 8) {
    try {
      const head = decodeHeader(await read(blob, 0, Math.min(length, WHOLE)));
      if (blob.size < head.frameLength) throw new DecodeError(`expected ${head.frameLength} bytes, got ${blob.size}`, "truncated", blob.size);
      if (blob.size > head.frameLength) throw new DecodeError(`the frame ends before the file does`, "trailing_bytes", head.frameLength);
      return head;
    } catch (error) {
      if (length >= WHOLE || !(error instanceof DecodeError && error.code === "truncated" && error.offset! < blob.size)) throw error;
    }
  }
}

/** The payload as it was meant; one that is not compressed stays in its file. */
async function uncompressed(blob: Blob, head: FrameHead): Promise<Blob> {
  const payload = blob.slice(head.payloadOffset);
  if (!head.compressed) return payload;
  const frame = { ...head, payload: await read(payload, 0, payload.size) };
  return new Blob([unpack(frame, { limit: LIMIT, verify: false }) as BlobPart]);
}

async function compareChecksum(payload: Blob, { metadata }: FrameHead, step: Step): Promise<Opened["checksum"]> {
  const expected = metadata.payloadChecksum;
  let actual = 0;
  for (let start = 0; start < payload.size; start += PIECE) {
    if (payload.size > PIECE) await step(start / payload.size);
    if (expected !== null) actual = crc32(await read(payload, start, start + PIECE), actual);
  }
  return expected === null ? null : { expected, actual, ok: expected === actual };
}

function hybridChunks(payload: Uint8Array): Opened["hybrid"] {
  return decodeHybrid(payload).chunks.map(({ kind, data, confidence }) => ({
    kind, confidence, length: data.length, text: kind === "text" ? new TextDecoder().decode(data) : null,
  }));
}

async function heatMap({ blob, tensor }: Requests["heatMap"]["ask"], step: Step): Promise<HeatMap> {
  return kvSample(await kvOf(blob), tensor, step);
}

async function kvOf(blob: Blob): Promise<Kv> {
  return openKv(await uncompressed(blob, await readHead(blob)));
}

async function compare({ blobs, hellos }: Requests["compare"]["ask"], step: Step): Promise<Comparison> {
  const sides = await Promise.all(blobs.map(async (blob, index) => {
    const { metadata } = await readHead(blob);
    const kv = metadata.payloadType === "kv_cache" && metadata.mode !== "hybrid" ? await kvOf(blob) : null;
    const said = hellos[index]!.trim() === "" ? null : parseHello(hellos[index]!).identity;
    const identity = said ?? identityOf(metadata, kv?.view.shape ?? null);
    return { identity, kv };
  }));
  const [a, b] = sides as [(typeof sides)[0], (typeof sides)[0]];
  const resolution = resolve(a.identity, b.identity);
  const identities: Comparison["identities"] = [a.identity, b.identity];
  if (!a.kv || !b.kv) return { identities, resolution, layers: null, note: "Only two KV-caches can be compared by layer." };
  const [one, two] = [a.kv.view.shape, b.kv.view.shape];
  if (one.numLayers !== two.numLayers || one.numKvHeads !== two.numKvHeads || one.headDim !== two.headDim) {
    return { identities, resolution, layers: null, note: "The two KV-caches differ in shape, so there is no difference by layer." };
  }
  return { identities, resolution, ...(await kvDifference(a.kv, b.kv, step)) };
}

/** Who made a frame: the peers write the model's hash and family among the extra entries. */
function identityOf({ modelId, hiddenDim, numLayers, extra }: Metadata, shape: KvShape | null): Partial<ModelIdentity> {
  const { model_hash: modelHash = "", model_family: modelFamily = "" } = extra;
  const { numKvHeads = 0, headDim = 0 } = shape ?? {};
  return { modelFamily, modelId, modelHash, hiddenDim, numLayers: shape?.numLayers ?? numLayers, numKvHeads, headDim };
}

async function describe(error: unknown, blob?: Blob): Promise<Trouble> {
  const { code, offset } = error instanceof AvpError ? error : { code: "cannot_read", offset: null };
  const message = error instanceof Error ? error.message : String(error);
  if (offset === null || !blob) return { code, message, offset, around: null };
  const start = Math.max(0, Math.floor(offset / 16) * 16 - 16);
  return { code, message, offset, around: { start, bytes: await read(blob, start, start + 48) } };
}

function attempt<T>(make: () => T): T | null {
  try {
    return make();
  } catch {
    return null;
  }
}
