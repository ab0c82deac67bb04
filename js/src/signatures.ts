// Signed frames, with the platform's own Ed25519 and SHA-256 (docs/frame.md).

import type * as api from "../api.js";
import * as check from "./check.js";
import { SignatureError } from "./errors.js";
import { decode } from "./frames.js";
import { HEADER } from "./metadata.js";

const NAMES = ["signed_by", "signed_for", "signed_at", "signed_until", "signed_nonce", "signature"] as const;
type Name = (typeof NAMES)[number];

const DOMAIN = "AVP signed frame v1\0";
const SIGNATURE_DIGITS = 128;
const CLOCK_SKEW = 60;
/** Times have at most 15 digits. */
const MAX_SECONDS = 999_999_999_999_999;
/** The last time that a Date can be. */
const MAX_DATE = 8.64e15;
/** The field of `extra` in the metadata. */
const EXTRA = 14;
const PADDING = "_pad";
/** The greatest alignment of tensors in a frame, which a signature keeps. */
const MAX_ALIGNMENT = 4096;
/** What PKCS #8 puts before the seed of an Ed25519 key (RFC 8410). */
const PKCS8 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);

/** The points of small order, as libsodium lists them: of a key or a signature with one of them, more than the signer can be true. */
const SMALL_ORDER = new Set([
  "00".repeat(32),
  `01${"00".repeat(31)}`,
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  `ec${"ff".repeat(30)}7f`,
  `ed${"ff".repeat(30)}7f`,
  `ee${"ff".repeat(30)}7f`,
]);

const MESSAGES: Record<api.SignatureErrorCode, string> = {
  not_signed: "the frame has no signature",
  bad_signature: "the frame is not the one that was signed: it was changed, or the signature is of another one",
  untrusted_signer: "the frame is signed with a key that is not trusted here",
  other_audience: "the frame is signed for another audience",
  signature_not_yet_valid: "the frame was signed in the future: one of the two clocks is wrong",
  signature_expired: "the signature has expired; sign again",
  signature_too_long: "the signature is valid for longer than is allowed here",
};

export async function signFrame(bytes: Uint8Array, options: api.SignOptions): Promise<Uint8Array> {
  // A copy: what the caller changes meanwhile is not signed.
  const frame = check.bytes(bytes, "bytes").slice();
  const { payloadOffset, frameLength } = decode(frame);
  const chosen = check.object(options ?? null, "options");
  const audience = check.optional(chosen["audience"], "options.audience", check.text) ?? "";
  const lifetime = check.optional(chosen["lifetimeMs"], "options.lifetimeMs", check.whole) ?? 600_000;
  const signedAt = secondsOf(chosen["now"]);
  const { privateKey, publicKey } = await keysOf(chosen["key"]);

  const stated: [Name, string][] = [
    ["signed_by", publicKey],
    ["signed_at", `${signedAt}`],
    ["signed_until", `${Math.min(signedAt + Math.floor(lifetime / 1000), MAX_SECONDS)}`],
    ["signed_nonce", hex(crypto.getRandomValues(new Uint8Array(16)))],
    ["signature", "0".repeat(SIGNATURE_DIGITS)],
  ];
  if (audience) stated.splice(1, 0, ["signed_for", audience]);
  const entries = stated.map(([name, value]) => entryOf(name, value));
  const kept: Uint8Array[] = [];
  let padded = false;
  for (const { start, end, entry } of fieldsOf(frame, payloadOffset)) {
    padded ||= entry?.name === PADDING;
    if (entry?.name !== PADDING && !isName(entry?.name)) kept.push(frame.subarray(start, end));
  }
  const length = HEADER + lengthOf(kept) + lengthOf(entries);
  if (padded) kept.push(paddingOf(length, payloadOffset));

  const head = concat([frame.subarray(0, HEADER), ...kept, ...entries]);
  const payload = frame.subarray(payloadOffset, frameLength);
  const lengths = new DataView(head.buffer);
  if (head.length - HEADER + payload.length > check.U32) throw new RangeError("bytes: the signed frame would be longer than 4 GiB");
  lengths.setUint32(4, head.length - HEADER + payload.length, true);
  lengths.setUint32(8, head.length - HEADER, true);
  const signature = await crypto.subtle.sign("Ed25519", privateKey, await messageOf(head, payload));
  // The signature is the last entry, and its value the last part of it.
  head.set(new TextEncoder().encode(hex(new Uint8Array(signature))), head.length - SIGNATURE_DIGITS);
  return concat([head, payload]);
}

export async function verifyFrame(bytes: Uint8Array, options: api.VerifyOptions): Promise<api.Signature> {
  const frame = check.bytes(bytes, "bytes");
  const { payloadOffset, frameLength } = decode(frame);
  const chosen = check.object(options ?? null, "options");
  const trusted = check.list(chosen["trusted"], "options.trusted", check.text);
  const audience = check.optional(chosen["audience"], "options.audience", check.text);
  const longest = check.optional(chosen["maxLifetimeMs"], "options.maxLifetimeMs", check.whole);
  const now = secondsOf(chosen["now"]);

  const stated = new Map<Name, Entry>();
  for (const { entry } of fieldsOf(frame, payloadOffset)) {
    if (entry?.ambiguous) throw malformed(entry.ambiguous);
    if (!entry || !isName(entry.name)) continue;
    if (stated.has(entry.name)) throw malformed(entry.name);
    stated.set(entry.name, entry);
  }
  if (stated.size === 0) throw refused("not_signed");
  const written = (name: Name, form: RegExp) => {
    const value = stated.get(name)?.value;
    if (value === undefined || !form.test(value)) throw malformed(name);
    return value;
  };
  const signature = written("signature", /^[0-9a-f]{128}$/);
  const signedFor = stated.has("signed_for") ? written("signed_for", /^[^]+$/) : "";
  const signedBy = written("signed_by", /^[0-9a-f]{64}$/);
  if (hasSmallOrder(signedBy)) throw malformed("signed_by");
  const seconds = (name: Name) => Number(written(name, /^(0|[1-9][0-9]{0,14})$/));
  const [signedAt, signedUntil] = [seconds("signed_at"), seconds("signed_until")];
  const nonce = written("signed_nonce", /^[0-9a-f]{32}$/);

  if (!trusted.includes(signedBy)) throw refused("untrusted_signer");
  if (audience !== null && audience !== signedFor) throw refused("other_audience");
  if (signedAt > now + CLOCK_SKEW) throw refused("signature_not_yet_valid");
  if (signedUntil <= now) throw refused("signature_expired");
  if (longest !== null && signedUntil - signedAt > longest / 1000) throw refused("signature_too_long");

  const head = frame.slice(0, payloadOffset);
  const start = stated.get("signature")!.valueStart;
  head.fill("0".charCodeAt(0), start, start + SIGNATURE_DIGITS);
  const message = await messageOf(head, frame.subarray(payloadOffset, frameLength));
  // The first half is a point too. Not every platform refuses one of small order, and Rust does.
  if (hasSmallOrder(signature.slice(0, 64))) throw refused("bad_signature");
  const key = await crypto.subtle.importKey("raw", unhex(signedBy), "Ed25519", false, ["verify"]).catch(() => {
    throw malformed("signed_by");
  });
  if (!(await crypto.subtle.verify("Ed25519", key, unhex(signature), message))) throw refused("bad_signature");
  const date = (seconds: number) => new Date(Math.min(seconds * 1000, MAX_DATE));
  return { signedBy, signedFor, signedAt: date(signedAt), signedUntil: date(signedUntil), nonce };
}

const refused = (code: api.SignatureErrorCode) => new SignatureError(MESSAGES[code], code);

const malformed = (name: Name) =>
  new SignatureError(`the entry ${name} of the signature is missing, repeated or not well written`, "bad_signature");

/** Whether these digits are a point of small order, with either sign. */
function hasSmallOrder(point: string): boolean {
  const withoutSign = parseInt(point.slice(62), 16) & 0x7f;
  return SMALL_ORDER.has(point.slice(0, 62) + withoutSign.toString(16).padStart(2, "0"));
}

const isName = (name: string | undefined): name is Name => NAMES.includes(name as Name);

function secondsOf(given: unknown): number {
  if (given === undefined) return Math.floor(Date.now() / 1000);
  if (!(given instanceof Date) || Number.isNaN(given.getTime())) throw new TypeError("options.now: expected a Date");
  return Math.floor(given.getTime() / 1000);
}

async function keysOf(given: unknown): Promise<{ privateKey: CryptoKey; publicKey: string }> {
  if (given instanceof Uint8Array) {
    if (given.length !== 32) throw new RangeError(`options.key: expected a seed of 32 bytes, got ${given.length}`);
    const privateKey = await crypto.subtle.importKey("pkcs8", concat([PKCS8, given]), "Ed25519", true, ["sign"]);
    const { x } = await crypto.subtle.exportKey("jwk", privateKey);
    const digits = atob(x!.replaceAll("-", "+").replaceAll("_", "/"));
    return { privateKey, publicKey: hex(Uint8Array.from(digits, (digit) => digit.charCodeAt(0))) };
  }
  const { privateKey, publicKey } = check.object(given ?? null, "options.key") as unknown as CryptoKeyPair;
  const both = privateKey instanceof CryptoKey && publicKey instanceof CryptoKey;
  if (!both) throw new TypeError("options.key: expected a seed of 32 bytes or a CryptoKeyPair of Ed25519");
  return { privateKey, publicKey: hex(new Uint8Array(await crypto.subtle.exportKey("raw", publicKey))) };
}

async function messageOf(head: Uint8Array, payload: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  const digest = async (bytes: Uint8Array) =>
    new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  // Both are read before the first wait, in which the caller could change them.
  return concat([new TextEncoder().encode(DOMAIN), ...(await Promise.all([digest(head), digest(payload)]))]);
}

interface Field {
  start: number;
  end: number;
  entry?: Entry;
}

interface Entry {
  name: string;
  value: string;
  valueStart: number;
  /** The name of a signature's entry in an entry with several names or values, of which readers could take different ones. */
  ambiguous?: Name;
}

/** The fields of metadata that were read without fault. */
function* fieldsOf(frame: Uint8Array, end: number): Generator<Field> {
  for (const { start, next, number, from } of messageFields(frame, HEADER, end)) {
    if (number !== EXTRA) {
      yield { start, end: next };
      continue;
    }
    const entry: Entry = { name: "", value: "", valueStart: 0 };
    const names: string[] = [];
    let values = 0;
    for (const part of messageFields(frame, from, next)) {
      const text = () => new TextDecoder("utf-8", { ignoreBOM: true }).decode(frame.subarray(part.from, part.next));
      if (part.number === 1) names.push((entry.name = text()));
      if (part.number === 2) [entry.value, entry.valueStart, values] = [text(), part.from, values + 1];
    }
    const ambiguous = names.length > 1 || values > 1 ? names.find(isName) : undefined;
    if (ambiguous) entry.ambiguous = ambiguous;
    yield { start, end: next, entry };
  }
}

/** The fields of a protobuf message: where each starts, where its content does, and where the next one starts. */
function* messageFields(bytes: Uint8Array, start: number, end: number) {
  for (let at = start; at < end; ) {
    const field = fieldAt(bytes, at);
    yield field;
    at = field.next;
  }
}

function fieldAt(bytes: Uint8Array, start: number): { start: number; number: number; from: number; next: number } {
  const [tag, from] = varintAt(bytes, start);
  const number = Math.floor(tag / 8);
  const of = (from: number, next: number) => ({ start, number, from, next });
  switch (tag % 8) {
    case 0:
      return of(from, varintAt(bytes, from)[1]);
    case 1:
      return of(from, from + 8);
    case 5:
      return of(from, from + 4);
    case 2: {
      const [length, content] = varintAt(bytes, from);
      return of(content, content + length);
    }
    default: {
      // A group, up to the field that ends it.
      let inner = from;
      while (varintAt(bytes, inner)[0] % 8 !== 4) inner = fieldAt(bytes, inner).next;
      return of(from, varintAt(bytes, inner)[1]);
    }
  }
}

/** A number and where it ends. Those that are lengths or tags have at most 32 bits. */
function varintAt(bytes: Uint8Array, start: number): [number, number] {
  let [value, scale, at] = [0, 1, start];
  for (;;) {
    // Only a frame that changes while it is read ends within a number.
    if (at >= bytes.length) throw new TypeError("bytes: the frame changed while it was read");
    const byte = bytes[at++]!;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return [value, at];
    scale *= 128;
  }
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(Math.floor(value / 128))];
}

function delimited(number: number, content: Uint8Array): Uint8Array {
  return concat([Uint8Array.from([number * 8 + 2, ...varint(content.length)]), content]);
}

/** An entry of `extra`. */
function entryOf(name: string, value: string): Uint8Array {
  const text = (text: string) => new TextEncoder().encode(text);
  return delimited(EXTRA, concat([delimited(1, text(name)), delimited(2, text(value))]));
}

/** The entry of spaces with which a head of `length` bytes is as long as one of `wanted` bytes, or longer by whole alignments. */
function paddingOf(length: number, wanted: number): Uint8Array {
  const lengthWith = (spaces: number) => {
    const content = 2 + PADDING.length + 1 + varint(spaces).length + spaces;
    return length + 1 + varint(content).length + content;
  };
  let spaces = 0;
  while ((lengthWith(spaces) - wanted) % MAX_ALIGNMENT !== 0) spaces++;
  return entryOf(PADDING, " ".repeat(spaces));
}

const lengthOf = (parts: Uint8Array[]) => parts.reduce((sum, part) => sum + part.length, 0);

function concat(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(lengthOf(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

const unhex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (digits) => parseInt(digits, 16));
