// What the API asks of Rust, and how a request is written. The seam takes it there: `seam-wasm.ts` or `seam-node.ts`, as the
// package that is built has it.

import * as seam from "./seam.js";

export { askBytes, crc32, pack, unpack } from "./seam.js";

/** In the order of the core's numbers (`js/operations/src/operation.rs`). */
export enum Operation {
  DecodeHead,
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

/** Writes a request's fields as the core reads them (`js/operations/src/border.rs`). */
export class Fields {
  #bytes = new Uint8Array(512);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  number(value: number): this {
    this.#reserve(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
    return this;
  }

  flag(value: boolean): this {
    return this.number(value ? 1 : 0);
  }

  text(value: string): this {
    // A unit of UTF-16 is at most three bytes.
    this.#reserve(8 + 3 * value.length);
    const { written } = utf8.encodeInto(value, this.#bytes.subarray(this.#length + 8));
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

  bytes(...more: Uint8Array[]): Uint8Array {
    const bytes = this.#bytes.subarray(0, this.#length);
    return more.length === 0 ? bytes : joined([bytes, ...more]);
  }

  #reserve(length: number): void {
    if (this.#length + length <= this.#bytes.length) return;
    const bytes = new Uint8Array(2 * (this.#length + length));
    bytes.set(this.#bytes);
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }
}
