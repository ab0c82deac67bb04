// Checks of arguments: each function returns the value, or throws a `TypeError` that names the argument.

/** Reads the internal slot: subclasses and objects of other realms pass, proxies and look-alikes do not. */
const typedArrayName = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
)!.get!;

/** Likewise: it accepts unshared buffers, attached or not. */
const lengthOfBuffer = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength")!.get!;

function isShared(buffer: ArrayBufferLike): boolean {
  try {
    lengthOfBuffer.call(buffer);
    return false;
  } catch {
    return true;
  }
}

function shown(value: unknown): string {
  if (value === null) return "null";
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (typeof value === "object") return Array.isArray(value) ? "an array" : "an object";
  return typeof value === "undefined" ? "undefined" : `a ${typeof value}`;
}

function wrong(name: string, expected: string, value: unknown): never {
  throw new TypeError(`${name}: expected ${expected}, got ${shown(value)}`);
}

/** A `Uint8Array` over ordinary memory. A `Buffer` becomes a plain one, because its methods differ in what they copy. */
export function bytes(value: unknown, name: string): Uint8Array {
  if (typedArrayName.call(value) !== "Uint8Array") wrong(name, "a Uint8Array", value);
  const array = value as Uint8Array;
  const buffer = array.buffer as ArrayBuffer & { resizable?: boolean };
  if (isShared(buffer)) {
    throw new TypeError(`${name}: expected unshared memory, got a SharedArrayBuffer, which another thread could change`);
  }
  if (buffer.resizable) throw new TypeError(`${name}: expected a buffer of fixed length, got a resizable one, which could shrink`);
  try {
    // Throws for a detached buffer, whose length reads as 0.
    return new Uint8Array(buffer, array.byteOffset, array.byteLength);
  } catch {
    throw new TypeError(`${name}: expected an attached buffer, got a detached one`);
  }
}

export function text(value: unknown, name: string): string {
  return typeof value === "string" ? value : wrong(name, "a string", value);
}

export function whole(value: unknown, name: string, max = Number.MAX_SAFE_INTEGER): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max) return value;
  return wrong(name, `a whole number from 0 to ${max}`, value);
}

export const U32 = 0xffff_ffff;

export const u32 = (value: unknown, name: string) => whole(value, name, U32);

export function number(value: unknown, name: string): number {
  return typeof value === "number" && Number.isFinite(value) ? value : wrong(name, "a finite number", value);
}

export function flag(value: unknown, name: string): boolean {
  return typeof value === "boolean" ? value : wrong(name, "a boolean", value);
}

export function oneOf<T extends string>(value: unknown, name: string, values: readonly T[]): T {
  if (values.includes(value as T)) return value as T;
  return wrong(name, `one of ${values.map((one) => `"${one}"`).join(", ")}`, value);
}

/** An object; `undefined` is an empty one. */
export function object(value: unknown, name: string): Record<string, unknown> {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) wrong(name, "an object", value);
  return value as Record<string, unknown>;
}

export function list<T>(value: unknown, name: string, item: (value: unknown, name: string) => T): T[] {
  if (!Array.isArray(value)) wrong(name, "an array", value);
  return value.map((one, index) => item(one, `${name}[${index}]`));
}

/** An optional value; `undefined` and `null` are absent. */
export function optional<T>(value: unknown, name: string, check: (value: unknown, name: string) => T): T | null {
  return value === undefined || value === null ? null : check(value, name);
}
