// What the API asks of Rust, and how a request is written. The seam takes it there: `seam-wasm.ts` or `seam-node.ts`, as the
// package that is built has it.

import * as seam from "./seam.js";

export { askBytes, crc32, pack, unpack } from "./seam.js";

/** In the order of the core's numbers (`js/operations/src/operation.rs`). */
export enum Operation {
  DecodeHead,
  FlagNames,
  EncodeHead,
  DecodeHybrid,
  EncodeHybrid,
  DecodeKv,
  EncodeKv,
  Resolve,
  Dialect,
  ParseHello,
  WriteHello,
  ParseMessage,
  WriteMessage,
  ParseFallback,
  WriteFallback,
  Identity,
  ModelHash,
  TokenizerHash,
  ParsePacket,
  ValidatePacket,
  ExplainPacket,
  BuildPacket,
  Vocabulary,
  AddTable,
  Workflows,
  Call,
  AddRules,
  FindRules,
  EncodeByRule,
  Drop,
  Instruction,
}

const utf8 = new TextEncoder();

/** Asks for something and gives the answer's value. */
export function ask(operation: Operation, bytes: Uint8Array | string, number = 0): any {
  return seam.ask(operation, typeof bytes === "string" ? utf8.encode(bytes) : bytes, number);
}

/** Asks for something that is numbers, with texts and bytes that lie in `bytes`. What comes is to be read before the next question. */
export function askNumbers(operation: Operation, bytes: Uint8Array, number: number): Numbers {
  return new Numbers(seam.askNumbers(operation, bytes, number), bytes);
}

export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(lengthOf(parts));
  write(parts, whole);
  return whole;
}

/** Writes parts one behind the other into memory that has room for them. */
export function write(parts: readonly Uint8Array[], target: Uint8Array): void {
  let at = 0;
  for (const part of parts) {
    target.set(part, at);
    at += part.length;
  }
}

export function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((length, part) => length + part.length, 0);
}

/** Something kept in the module by number, made anew when the module was, let go of when its owner is gone. */
export class Kept {
  #number = 0;
  #generation = -1;
  readonly #make: () => number;

  constructor(make: () => number) {
    this.#make = make;
  }

  get number(): number {
    const generation = seam.generation();
    if (this.#generation !== generation) {
      this.#number = this.#make();
      this.#generation = generation;
    }
    return this.#number;
  }

  /** Ties what is kept to the life of `owner`, which must not be reachable from here. */
  ownedBy(owner: object): this {
    owners?.register(owner, () => {
      if (this.#generation === seam.generation()) ask(Operation.Drop, "", this.#number);
    });
    return this;
  }
}

const owners =
  typeof FinalizationRegistry === "undefined" ? undefined : new FinalizationRegistry<() => void>((drop) => drop());

export const fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Up to this many characters of ASCII, one after the other is faster than the decoder. */
const SHORT = 24;

function textAt(bytes: Uint8Array, start: number, length: number): string {
  const end = start + length;
  if (length <= SHORT) {
    let text = "";
    let at = start;
    while (at < end && bytes[at]! < 0x80) text += String.fromCharCode(bytes[at++]!);
    if (at === end) return text;
  }
  return fromUtf8.decode(bytes.subarray(start, end));
}

/** Reads an answer in numbers as the core writes it (`js/operations/src/border.rs`). */
export class Numbers {
  readonly #numbers: DataView;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(numbers: DataView, bytes: Uint8Array) {
    this.#numbers = numbers;
    this.#bytes = bytes;
  }

  number(): number {
    const number = this.#numbers.getFloat64(this.#at, true);
    this.#at += 8;
    return number;
  }

  text(): string {
    return textAt(this.#bytes, this.number(), this.number());
  }

  bytes(): Uint8Array {
    const start = this.number();
    return this.#bytes.subarray(start, start + this.number());
  }

  option<T>(read: () => T): T | null {
    return this.number() ? read() : null;
  }

  list<T>(read: () => T): T[] {
    const items: T[] = [];
    for (let left = this.number(); left > 0; left -= 1) items.push(read());
    return items;
  }
}

interface Page {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

function pageOf(length: number): Page {
  const bytes = new Uint8Array(length);
  return { bytes, view: new DataView(bytes.buffer) };
}

const USUAL = 512;

/** Where the next request is written: making memory takes longer than to fill it. None while one is being written. */
let spare: Page | undefined;

/** Writes a request's fields as the core reads them (`js/operations/src/border.rs`). */
export class Fields {
  #page: Page;
  #length = 0;

  constructor() {
    this.#page = spare ?? pageOf(USUAL);
    spare = undefined;
  }

  number(value: number): this {
    this.#reserve(8);
    this.#page.view.setFloat64(this.#length, value, true);
    this.#length += 8;
    return this;
  }

  flag(value: boolean): this {
    return this.number(value ? 1 : 0);
  }

  text(value: string): this {
    // A unit of UTF-16 is at most three bytes.
    this.#reserve(8 + 3 * value.length);
    const written = writeText(value, this.#page.bytes, this.#length + 8);
    this.number(written);
    this.#length += written;
    return this;
  }

  option<T>(value: T | null, write: (value: T) => unknown): this {
    this.flag(value !== null);
    if (value !== null) write(value);
    return this;
  }

  list<T>(values: readonly T[], write: (value: T) => unknown): this {
    this.number(values.length);
    values.forEach(write);
    return this;
  }

  texts(values: readonly string[]): this {
    return this.list(values, (value) => this.text(value));
  }

  pairs(values: readonly (readonly [string, string])[]): this {
    return this.list(values, ([key, value]) => this.text(key).text(value));
  }

  /** The request, and bytes behind it. To be sent before the next one is begun. */
  bytes(...more: Uint8Array[]): Uint8Array {
    const { bytes } = this.#page;
    if (bytes.length === USUAL) spare = this.#page;
    const request = bytes.subarray(0, this.#length);
    return more.length === 0 ? request : joined([request, ...more]);
  }

  #reserve(length: number): void {
    const { bytes } = this.#page;
    if (this.#length + length <= bytes.length) return;
    this.#page = pageOf(2 * (this.#length + length));
    this.#page.bytes.set(bytes);
  }
}

/** Writes a text as UTF-8 and returns its length in bytes. */
function writeText(text: string, target: Uint8Array, start: number): number {
  if (text.length <= SHORT) {
    let at = 0;
    for (let unit: number; at < text.length && (unit = text.charCodeAt(at)) < 0x80; at += 1) target[start + at] = unit;
    if (at === text.length) return at;
  }
  return utf8.encodeInto(text, target.subarray(start)).written;
}
