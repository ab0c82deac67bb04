// All use of the package runs in this worker, so that the page never blocks. Files are read piece by piece.

import {
  AvpError, crc32, decode, decodeHeader, decodeHybrid, DecodeError, explainPacket, parseHello, resolve,
  unpack, validatePacket, type FrameHead, type KvShape, type Metadata, type ModelIdentity,
} from "avp-wasm";
import { kvDifference, kvSample, openKv } from "./kv.js";
import { PIECE, read, readAll, type Step } from "./pieces.js";
import type { Comparison, FromWorker, Name, Opened, Requests, ToWorker, Trouble } from "./protocol.js";
import { sample } from "./samples.js";

const WHOLE = 32 << 20;
const LIMIT = 512 << 20;
const PREVIEW = 256;
/** Limits of the page: chunks of a hybrid payload, and bytes of text in a chunk. */
const CHUNKS = 256;
const TEXT = 64 << 10;

const work: { [N in Name]: (what: Requests[N]["ask"], step: Step) => Promise<Requests[N]["answer"]> } = {
  open,
  heatMap: async ({ payload, tensor }, step) => kvSample(await openKv(payload), tensor, step),
  compare,
  sample: async ({ name }) => ({ blob: sample(name) }),
  packet: async ({ text, strict }) => ({
    validation: validatePacket(text, { profile: strict ? "strict" : "lenient" }),
    explanation: attempt(() => explainPacket(text)),
  }),
};

self.onmessage = async ({ data: { id, name, what } }: MessageEvent<ToWorker>) => {
  const say = (message: FromWorker) => self.postMessage(message);
  try {
    say({ id, answer: await work[name](what as never, (part) => say({ id, progress: part })) });
  } catch (error) {
    say({ id, trouble: await describe(error, "blob" in what ? what.blob : null) });
  }
};

async function open({ blob }: Requests["open"]["ask"], step: Step): Promise<Opened> {
  const head = await readHead(blob);
  const bytes = await read(blob, 0, Math.min(blob.size, head.payloadOffset + PREVIEW));
  const opened: Opened = { head, bytes, size: blob.size, payload: null, checksum: null, hybrid: null, kv: null, trouble: null };
  try {
    opened.payload = await uncompressed(blob, head, step);
    opened.checksum = await compareChecksum(opened.payload, head, step);
    if (opened.checksum && !opened.checksum.ok) {
      throw new DecodeError("checksum mismatch", "checksum_mismatch", head.payloadOffset);
    }
  } catch (error) {
    opened.trouble = await describe(error, blob);
  }
  try {
    if (opened.payload) await readPayload(opened.payload, opened);
  } catch (error) {
    // Damaged bytes are the reason for whatever else is wrong with them.
    opened.trouble ??= await describe(error, opened.payload, head);
  }
  return opened;
}

async function readPayload(payload: Blob, opened: Opened): Promise<void> {
  const { mode, payloadType } = opened.head.metadata;
  if (mode === "hybrid") opened.hybrid = hybridChunks(await read(payload, 0, payload.size));
  else if (payloadType === "kv_cache") opened.kv = (await openKv(payload)).shape;
}

/** Reads header and metadata. A small file is decoded whole; for a large one only the length is compared. */
async function readHead(blob: Blob): Promise<FrameHead> {
  if (blob.size <= WHOLE) return decode(await read(blob, 0, blob.size));
  for (let length = 64 << 10; ; length *= 8) {
    try {
      const head = decodeHeader(await read(blob, 0, Math.min(length, WHOLE)));
      if (blob.size < head.frameLength) throw new DecodeError(`expected ${head.frameLength} bytes, got ${blob.size}`, "truncated", blob.size);
      if (blob.size > head.frameLength) throw new DecodeError(`the frame ends before the file`, "trailing_bytes", head.frameLength);
      return head;
    } catch (error) {
      if (length >= WHOLE || !(error instanceof DecodeError && error.code === "truncated" && error.offset! < blob.size)) throw error;
    }
  }
}

/** The unpacked payload. An uncompressed payload stays in its file. */
async function uncompressed(blob: Blob, head: FrameHead, step: Step): Promise<Blob> {
  const payload = blob.slice(head.payloadOffset);
  if (!head.compressed) return payload;
  if (payload.size > LIMIT) {
    const message = `expected at most ${LIMIT} bytes of compressed payload, got ${payload.size}`;
    throw new DecodeError(message, "decompressed_too_large", head.payloadOffset);
  }
  const frame = { ...head, payload: await readAll(payload, step) };
  step(null);
  return new Blob([unpack(frame, { limit: LIMIT, verify: false }) as BlobPart]);
}

async function compareChecksum(payload: Blob, { metadata }: FrameHead, step: Step): Promise<Opened["checksum"]> {
  const expected = metadata.payloadChecksum;
  if (expected === null) return null;
  let actual = 0;
  for (let start = 0; start < payload.size; start += PIECE) {
    if (start > 0) step(start / payload.size);
    actual = crc32(await read(payload, start, start + PIECE), actual);
  }
  return { expected, actual, ok: expected === actual };
}

function hybridChunks(payload: Uint8Array): Opened["hybrid"] {
  const { chunks } = decodeHybrid(payload);
  const shown = chunks.slice(0, CHUNKS).map(({ kind, data, confidence }) => {
    // As of a stream, so that a character which is cut is left out.
    const text = kind === "text" ? new TextDecoder().decode(data.subarray(0, TEXT), { stream: true }) : null;
    return { kind, confidence, length: data.length, text, cut: text !== null && data.length > TEXT };
  });
  return { chunks: shown, count: chunks.length };
}

async function compare({ frames, hellos }: Requests["compare"]["ask"], step: Step): Promise<Comparison> {
  const identities = frames.map(({ head, kv }, index) => {
    const said = hellos[index]!.trim() === "" ? null : parseHello(hellos[index]!).identity;
    return said ?? identityOf(head.metadata, kv);
  }) as Comparison["identities"];
  const answer = { identities, resolution: resolve(...identities), layers: null };
  const [one, two] = frames.map(({ payload, kv }) => payload && kv && { payload, shape: kv });
  if (!one || !two) return { ...answer, note: "Only two KV-caches can be compared by layer." };
  const differ = (["numLayers", "numKvHeads", "headDim"] as const).some((axis) => one.shape[axis] !== two.shape[axis]);
  if (differ) return { ...answer, note: "The two KV-caches differ in shape, so there is no difference by layer." };
  return { ...answer, ...(await kvDifference(one, two, step)) };
}

/** The identity of a frame's model: peers write its hash and family as extra entries. */
function identityOf({ modelId, hiddenDim, numLayers, extra }: Metadata, shape: KvShape | null): Partial<ModelIdentity> {
  const { model_hash: modelHash = "", model_family: modelFamily = "" } = extra;
  const { numKvHeads = 0, headDim = 0 } = shape ?? {};
  return { modelFamily, modelId, modelHash, hiddenDim, numLayers: shape?.numLayers ?? numLayers, numKvHeads, headDim };
}

/** The error of `blob`, a file, or of the payload of the frame with this `head`. */
async function describe(error: unknown, blob: Blob | null, head: FrameHead | null = null): Promise<Trouble> {
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof AvpError)) return { code: "cannot_read", message, offset: null, unpacked: false, around: null };
  const { code, offset } = error;
  const unpacked = head?.compressed ?? false;
  const shift = head && !unpacked ? head.payloadOffset : 0;
  if (offset === null || !blob) return { code, message, offset, unpacked, around: null };
  const start = Math.max(0, Math.floor(offset / 16) * 16 - 16);
  return { code, message, offset: shift + offset, unpacked, around: { start: shift + start, bytes: await read(blob, start, start + 48) } };
}

function attempt<T>(make: () => T): T | null {
  try {
    return make();
  } catch {
    return null;
  }
}
