// Frames: read, written, verified, unpacked; cut from a stream.

import type * as api from "../api.js";
import * as check from "./check.js";
import * as core from "./core.js";
import { Fields, type Numbers, Operation } from "./core.js";
import { DecodeError, EncodeError } from "./errors.js";

const HEADER = 12;
const DEFAULT_LIMIT = 2 ** 30;
/** Metadata longer than this is refused: it would have to pass through the module's memory, some of it eightfold. */
const METADATA_LIMIT = 2 ** 20;

const DIALECTS = ["0.2", "0.3"] as const;
const PAYLOAD_TYPES = ["hidden_state", "kv_cache", "embedding", "auto"] as const;
const DTYPES = ["float32", "float16", "bfloat16", "int8"] as const;
export const MODES = ["latent", "hybrid", "json"] as const;

export function decode(bytes: Uint8Array): api.Frame {
  const whole = check.bytes(bytes, "bytes");
  return withPayload(head(whole, whole.length), whole);
}

export function decodeHeader(bytes: Uint8Array): api.FrameHead {
  const start = check.bytes(bytes, "bytes");
  return head(start, -1);
}

function withPayload(frame: api.FrameHead, whole: Uint8Array): api.Frame {
  return Object.assign(frame, { payload: whole.subarray(frame.payloadOffset, frame.frameLength) });
}

/** Only header and metadata pass into the module's memory. `length` is that of all the bytes, or -1 to ask for the head alone. */
function head(bytes: Uint8Array, length: number): api.FrameHead {
  const metadataLength = bytes.length < HEADER ? 0 : uint32(bytes, 8);
  if (metadataLength > METADATA_LIMIT) {
    // What is wrong with the header itself comes first.
    checkStart(bytes);
    throw tooLong(metadataLength);
  }
  return headFrom(core.askNumbers(Operation.DecodeHead, bytes.subarray(0, HEADER + metadataLength), length));
}

/** In the order in which the core writes them. */
function headFrom(answer: Numbers): api.FrameHead {
  const number = () => answer.number();
  const text = () => answer.text();
  const dialect = number();
  const flags = number();
  const payloadLength = number();
  const metadataLength = number();
  const sessionId = text();
  const sourceAgentId = text();
  const targetAgentId = text();
  const modelId = text();
  const hiddenDim = number();
  const numLayers = number();
  const payloadType = PAYLOAD_TYPES[number()]!;
  const dtype = DTYPES[number()]!;
  const mode = MODES[number()]!;
  const avpMapId = text();
  const embeddingDim = number();
  const dataType = text();
  const agentId = answer.option(text);
  const taskId = answer.option(text);
  const confidenceScore = answer.option(number);
  const payloadChecksum = answer.option(number);
  const tensorShape = answer.list(number);
  const extra: Record<string, string> = {};
  // Of entries with one key, the last counts.
  for (let left = number(); left > 0; left -= 1) put(extra, text(), text());
  return {
    dialect: DIALECTS[dialect - 1] ?? null,
    version: 1,
    flags,
    flagNames: flagNames(flags, dialect),
    payloadLength,
    metadataLength,
    payloadOffset: HEADER + metadataLength,
    frameLength: HEADER + payloadLength,
    compressed: (flags & 1) === 1,
    metadata: {
      sessionId,
      sourceAgentId,
      targetAgentId,
      modelId,
      hiddenDim,
      numLayers,
      payloadType,
      dtype,
      tensorShape,
      mode,
      avpMapId,
      extra,
      confidenceScore,
      payloadChecksum,
      embeddingDim,
      dataType,
      agentId,
      taskId,
    },
  };
}

/** Any key is a property here, also the one that would set the prototype. */
function put(object: Record<string, string>, key: string, value: string): void {
  if (key !== "__proto__") object[key] = value;
  else Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
}

/** What the core calls flags in a dialect, which frames after the first need not ask. */
const namesOfFlags = new Map<number, readonly string[]>();

function flagNames(flags: number, dialect: number): string[] {
  if (flags === 0) return [];
  const key = (dialect << 8) | flags;
  const names = namesOfFlags.get(key) ?? (core.ask(Operation.FlagNames, "", key) as string[]);
  namesOfFlags.set(key, names);
  return [...names];
}

function tooLong(metadataLength: number): DecodeError {
  const message = `metadata of ${metadataLength} bytes is more than the limit of ${METADATA_LIMIT}`;
  return new DecodeError(message, "metadata_too_large", 8);
}

function uint32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

export function unpack(frame: api.Frame, options?: api.UnpackOptions): Uint8Array {
  const { payload: given, compressed, payloadOffset } = check.object(frame, "frame") as unknown as api.Frame;
  const packed = check.bytes(given, "frame.payload");
  const chosen = check.object(options, "options");
  const limit = check.optional(chosen["limit"], "options.limit", check.whole) ?? DEFAULT_LIMIT;
  const verify = check.optional(chosen["verify"], "options.verify", check.flag) ?? true;
  const offset = check.whole(payloadOffset, "frame.payloadOffset");
  let payload = packed;
  if (check.flag(compressed, "frame.compressed")) {
    payload = core.unpack(packed, limit, offset);
  } else if (packed.length > limit) {
    const message = `the body unpacks to more than the limit of ${limit} bytes`;
    throw new DecodeError(message, "decompressed_too_large", offset);
  }
  const sums = verify ? checksum(frame, payload) : null;
  if (sums && !sums.ok) {
    const hex = (sum: number) => `0x${sum.toString(16).padStart(8, "0")}`;
    const message = `checksum mismatch: expected ${hex(sums.expected)}, got ${hex(sums.actual)}`;
    throw new DecodeError(message, "checksum_mismatch", offset);
  }
  return payload;
}

export function checksum(frame: api.FrameHead, payload: Uint8Array): api.Checksum | null {
  const metadata = check.object(check.object(frame ?? null, "frame")["metadata"] ?? null, "frame.metadata");
  const expected = check.optional(metadata["payloadChecksum"], "frame.metadata.payloadChecksum", u32);
  const bytes = check.bytes(payload, "payload");
  if (expected === null) return null;
  const actual = core.crc32(bytes, 0);
  return { expected, actual, ok: expected === actual };
}

export function crc32(bytes: Uint8Array, previous = 0): number {
  return core.crc32(check.bytes(bytes, "bytes"), u32(previous, "previous"));
}

export function encode(
  metadata: api.MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: api.EncodeOptions,
): Uint8Array {
  return core.joined(headAndBody(metadata, payload, options));
}

export function encodeInto(
  target: Uint8Array,
  metadata: api.MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: api.EncodeOptions,
): Uint8Array {
  const room = check.bytes(target, "target");
  let parts = headAndBody(metadata, payload, options);
  const length = core.lengthOf(parts);
  if (length > room.length) {
    throw new EncodeError(`the buffer needs ${length} bytes, got ${room.length}`, "buffer_too_small");
  }
  // What lies in the target's memory could be overwritten before it is read.
  parts = parts.map((part) => (part.buffer === room.buffer ? part.slice() : part));
  core.write(parts, room);
  return room.subarray(0, length);
}

// The payload is read twice, for the checksum and to be copied. Both at once, piece by piece, takes three times as long for
// 128 MiB: a large copy writes past the caches, and small ones do not.
function headAndBody(metadata: unknown, payload: unknown, options: unknown): Uint8Array[] {
  let parts = partsOf(payload);
  const plan = planOf(metadata, options);
  const crc = plan.sums ? crcOf(parts) : 0;
  if (plan.compress) parts = [core.pack(parts, core.lengthOf(parts))];
  return [headOf(plan, core.lengthOf(parts), crc), ...parts];
}

export function encodeHeader(
  metadata: api.MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: Omit<api.EncodeOptions, "compress">,
): Uint8Array {
  const parts = partsOf(payload);
  const plan = planOf(metadata, { ...check.object(options, "options"), compress: false });
  return headOf(plan, core.lengthOf(parts), plan.sums ? crcOf(parts) : 0);
}

interface Plan {
  fields: Fields;
  compress: boolean;
  /** Whether a checksum will be written. */
  sums: boolean;
}

/** Everything of a head that does not depend on the payload. */
function planOf(init: unknown, options: unknown): Plan {
  const metadata = check.object(init ?? null, "metadata");
  const text = (key: string) => check.optional(metadata[key], `metadata.${key}`, check.text) ?? "";
  const count = (key: string) => check.optional(metadata[key], `metadata.${key}`, u32) ?? 0;
  const chosen = check.object(options, "options");
  const dialect = named(chosen["dialect"], "options.dialect", DIALECTS) ?? "0.3";
  const checksum = check.optional(chosen["checksum"], "options.checksum", check.flag);
  const compress = check.optional(chosen["compress"], "options.compress", check.flag) ?? false;
  const alignment = check.optional(chosen["alignment"], "options.alignment", u32) ?? 1;
  const extra = Object.entries(check.object(metadata["extra"] ?? undefined, "metadata.extra"));
  const shape = check.list(metadata["tensorShape"] ?? [], "metadata.tensorShape", u32);

  const fields = new Fields();
  for (const key of ["sessionId", "sourceAgentId", "targetAgentId", "modelId", "avpMapId"]) fields.text(text(key));
  fields.number(count("hiddenDim")).number(count("numLayers"));
  fields.text(named(metadata["payloadType"], "metadata.payloadType", PAYLOAD_TYPES) ?? "hidden_state");
  fields.text(named(metadata["dtype"], "metadata.dtype", DTYPES) ?? "float32");
  fields.text(named(metadata["mode"], "metadata.mode", MODES) ?? "latent");
  fields.list(shape, (axis) => fields.number(axis));
  fields.pairs(extra.map(([key, value]) => [key, check.text(value, `metadata.extra.${key}`)] as const));
  const confidence = check.optional(metadata["confidenceScore"], "metadata.confidenceScore", check.number);
  fields.option(confidence, (score) => fields.number(score));
  fields.text(dialect).number(alignment).flag(compress).option(checksum, (wanted) => fields.flag(wanted));
  return { fields, compress, sums: checksum ?? dialect === "0.3" };
}

function headOf(plan: Plan, bodyLength: number, crc: number): Uint8Array {
  return core.askBytes(Operation.EncodeHead, plan.fields.number(bodyLength).number(crc).bytes());
}

export function named<T extends string>(value: unknown, name: string, values: readonly T[]): T | null {
  return check.optional(value, name, (value, name) => check.oneOf(value, name, values));
}

export const u32 = (value: unknown, name: string) => check.whole(value, name, check.U32);

function partsOf(payload: unknown): Uint8Array[] {
  return Array.isArray(payload) ? check.list(payload, "payload", check.bytes) : [check.bytes(payload, "payload")];
}

function crcOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((crc, part) => core.crc32(part, crc), 0);
}

export class FrameDecoder {
  readonly #limit: number;
  /** Bytes of the frame that is arriving: `#pieces` joined. */
  #pieces: Uint8Array[] = [];
  #buffered = 0;
  /** Bytes that there must be before looking again can tell anything new. */
  #needed = HEADER;
  #head: api.FrameHead | null = null;
  #failure: unknown;

  constructor(options?: api.FrameDecoderOptions) {
    const limit = check.object(options, "options")["frameLimit"];
    this.#limit = check.optional(limit, "options.frameLimit", check.whole) ?? DEFAULT_LIMIT;
  }

  feed(chunk: Uint8Array): api.Frame[] {
    const given = check.bytes(chunk, "chunk");
    if (this.#failure) throw this.#failure;
    // The caller may use the chunk's memory again, and a frame's payload must stay as it is.
    if (given.length > 0) this.#pieces.push(given.slice());
    this.#buffered += given.length;
    const frames: api.Frame[] = [];
    try {
      for (let frame = this.#next(); frame; frame = this.#next()) frames.push(frame);
    } catch (error) {
      this.#failure = error;
      // Frames that came whole before the fault are not lost: the fault comes with the next call.
      if (frames.length === 0) throw error;
    }
    return frames;
  }

  head(): api.FrameHead | null {
    if (this.#failure) throw this.#failure;
    return this.#head;
  }

  get buffered(): number {
    return this.#buffered;
  }

  finish(): void {
    if (this.#failure) throw this.#failure;
    if (this.#buffered === 0) return;
    const message = `last frame of the stream needs at least ${this.#needed} bytes, got ${this.#buffered}`;
    throw new DecodeError(message, "truncated", this.#buffered);
  }

  #next(): api.Frame | null {
    // A fault shows as soon as its bytes are there, before the header is whole.
    if (this.#buffered > 0 && this.#buffered < HEADER) checkStart(this.#joined());
    while (this.#buffered >= this.#needed) {
      const bytes = this.#joined();
      if (!this.#head) {
        const frameLength = HEADER + uint32(bytes, 4);
        const headLength = HEADER + uint32(bytes, 8);
        checkStart(bytes);
        if (frameLength > this.#limit) {
          const message = `a frame of ${frameLength} bytes is more than the limit of ${this.#limit}`;
          throw new DecodeError(message, "frame_too_large", 4);
        }
        if (headLength - HEADER > METADATA_LIMIT) throw tooLong(headLength - HEADER);
        if (headLength <= bytes.length) this.#head = decodeHeader(bytes);
        this.#needed = this.#head ? frameLength : headLength;
        continue;
      }
      const frame = withPayload(this.#head, bytes.subarray(0, this.#needed));
      const rest = bytes.subarray(this.#needed);
      this.#pieces = rest.length > 0 ? [rest] : [];
      this.#buffered = rest.length;
      this.#needed = HEADER;
      this.#head = null;
      return frame;
    }
    return null;
  }

  #joined(): Uint8Array {
    if (this.#pieces.length > 1) this.#pieces = [core.joined(this.#pieces)];
    return this.#pieces[0]!;
  }
}

/** Throws what is wrong with the first bytes of a frame, but not that there are too few of them. */
function checkStart(bytes: Uint8Array): void {
  try {
    core.askNumbers(Operation.DecodeHead, bytes.subarray(0, HEADER), -1);
  } catch (error) {
    if (!(error instanceof DecodeError && error.code === "truncated")) throw error;
  }
}

export class FrameDecoderStream {
  readonly readable: ReadableStream<api.Frame>;
  readonly writable: WritableStream<Uint8Array>;

  constructor(options?: api.FrameDecoderOptions) {
    const decoder = new FrameDecoder(options);
    const { readable, writable } = new TransformStream<Uint8Array, api.Frame>({
      transform(chunk, controller) {
        for (const frame of decoder.feed(chunk)) controller.enqueue(frame);
      },
      flush() {
        decoder.finish();
      },
    });
    this.readable = readable;
    this.writable = writable;
  }
}
