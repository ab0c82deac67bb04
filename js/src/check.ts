// Arguments are checked here, before they reach the core: each function gives the value back, or names the argument.

/** The internal slot decides, so that subclasses and other realms pass, and proxies and look-alikes do not. */
const typedArrayName = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype),
  Symbol.toStringTag,
)!.get!;

/** Likewise: it takes the buffers that are not shared, whether attached or not. */
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
  if (typeof value === "object") return Array.isArray(value) ? "an array" : "another object";
  return typeof value === "undefined" ? "undefined" : `a ${typeof value}`;
}

function wrong(name: string, expected: string, value: unknown): never {
  throw new TypeError(`${name} should be ${expected}, got ${shown(value)}`);
}

/** A `Uint8Array` of ordinary memory, as a plain one: a `Buffer`'s own methods copy or not as they like. */
export function bytes(value: unknown, name: string): Uint8Array {
  if (typedArrayName.call(value) !== "Uint8Array") wrong(name, "a Uint8Array", value);
  const array = value as Uint8Array;
  const buffer = array.buffer as ArrayBuffer & { resizable?: boolean };
  if (isShared(buffer)) {
    throw new TypeError(`${name} should not be of shared memory: another thread could change it meanwhile`);
  }
  if (buffer.resizable) throw new TypeError(`${name} should not be of a resizable buffer: it could shrink meanwhile`);
  try {
    // Refuses a detached buffer, whose length reads as 0.
    return new Uint8Array(buffer, array.byteOffset, array.byteLength);
  } catch {
    throw new TypeError(`${name} should not be of a detached buffer`);
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

/** An object of options; nothing stands for none. */
export function object(value: unknown, name: string): Record<string, unknown> {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) wrong(name, "an object", value);
  return value as Record<string, unknown>;
}

export function list<T>(value: unknown, name: string, item: (value: unknown, name: string) => T): T[] {
  if (!Array.isArray(value)) wrong(name, "an array", value);
  return value.map((one, index) => item(one, `${name}[${index}]`));
}

/** A value that may be left out; `null` is as good as nothing. */
export function optional<T>(value: unknown, name: string, check: (value: unknown, name: string) => T): T | null {
  return value === undefined || value === null ? null : check(value, name);
}
