// Frames: read, written, verified, unpacked; cut from a stream.

import type * as api from "../api.js";
import * as check from "./check.js";
import * as core from "./core.js";
import { DecodeError, EncodeError } from "./errors.js";
import { HEADER, writeMetadata } from "./metadata.js";
import { RowWriter } from "./row.js";

const DEFAULT_LIMIT = 2 ** 30;
/** Rust refuses metadata that is longer, so no more of a frame is passed to it. */
const METADATA_LIMIT = 2 ** 20;

export function decode(bytes: Uint8Array): api.Frame {
  const whole = check.bytes(bytes, "bytes");
  return withPayload(core.decodeHead(startOf(whole), whole.length), whole);
}

export function decodeHeader(bytes: Uint8Array): api.FrameHead {
  const start = check.bytes(bytes, "bytes");
  return core.decodeHead(startOf(start));
}

function withPayload(frame: api.FrameHead, whole: Uint8Array): api.Frame {
  return Object.assign(frame, { payload: whole.subarray(frame.payloadOffset, frame.frameLength) });
}

/** Header and metadata. */
function startOf(bytes: Uint8Array): Uint8Array {
  if (bytes.length <= HEADER) return bytes;
  const metadataLength = (bytes[8]! | (bytes[9]! << 8) | (bytes[10]! << 16) | (bytes[11]! << 24)) >>> 0;
  return bytes.subarray(0, HEADER + Math.min(metadataLength, METADATA_LIMIT));
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
  const expected = check.optional(metadata["payloadChecksum"], "frame.metadata.payloadChecksum", check.u32);
  const bytes = check.bytes(payload, "payload");
  if (expected === null) return null;
  const actual = core.crc32(bytes, 0);
  return { expected, actual, ok: expected === actual };
}

export function crc32(bytes: Uint8Array, previous = 0): number {
  return core.crc32(check.bytes(bytes, "bytes"), check.u32(previous, "previous"));
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
  return [headBytes(plan, core.lengthOf(parts), crc), ...parts];
}

export function encodeHeader(
  metadata: api.MetadataInit,
  payload: Uint8Array | readonly Uint8Array[],
  options?: Omit<api.EncodeOptions, "compress">,
): Uint8Array {
  const parts = partsOf(payload);
  const plan = planOf(metadata, { ...check.object(options, "options"), compress: false });
  return headBytes(plan, core.lengthOf(parts), plan.sums ? crcOf(parts) : 0);
}

interface Plan {
  /** What `encodeHead` needs to know beside the payload. */
  row: RowWriter;
  compress: boolean;
  /** Whether to compute the checksum. */
  sums: boolean;
}

function planOf(metadata: unknown, options: unknown): Plan {
  const chosen = check.object(options, "options");
  const dialect = check.optional(chosen["dialect"], "options.dialect", check.text);
  const checksum = check.optional(chosen["checksum"], "options.checksum", check.flag);
  const alignment = check.optional(chosen["alignment"], "options.alignment", check.u32) ?? 1;
  const compress = check.optional(chosen["compress"], "options.compress", check.flag) ?? false;
  const row = new RowWriter();
  row.addOptionalText(dialect);
  row.addOptionalNumber(checksum === null ? null : Number(checksum));
  row.addNumber(alignment);
  row.addNumber(Number(compress));
  writeMetadata(metadata, row);
  return { row, compress, sums: checksum ?? (dialect ?? "0.3") === "0.3" };
}

function headBytes({ row }: Plan, bodyLength: number, crc: number): Uint8Array {
  return core.call((rust) => rust.encodeHead(row.text, row.numbers, bodyLength, crc));
}

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
    // The first bytes of a header may be wrong already; later, joining fewer bytes than are needed would be in vain.
    while (this.#buffered > 0 && (this.#buffered < HEADER || this.#buffered >= this.#needed)) {
      const bytes = this.#joined();
      if (!this.#head) {
        const found = core.peekHead(startOf(bytes), this.#limit);
        this.#needed = typeof found === "number" ? found : found.frameLength;
        if (typeof found === "number") return null;
        this.#head = found;
      }
      if (bytes.length < this.#needed) return null;
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
