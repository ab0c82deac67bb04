// Options of the runtime, checked by name: one that does not exist is a mistake, not a default.

import * as check from "./check.js";

export type Check = (value: unknown, name: string) => unknown;

/** The options that are given, checked; those of value `null` or `undefined` are left out. */
export function options(value: unknown, name: string, checks: Record<string, Check>): Record<string, unknown> {
  const given = check.object(value, name);
  const unknown = Object.keys(given).find((key) => !Object.hasOwn(checks, key));
  if (unknown !== undefined) {
    throw new TypeError(`${name}.${unknown} is no option; there are ${Object.keys(checks).join(", ")}`);
  }
  const found: Record<string, unknown> = {};
  for (const [key, one] of Object.entries(checks)) {
    const checked = check.optional(given[key], `${name}.${key}`, one);
    if (checked !== null) found[key] = checked;
  }
  return found;
}

/** JSON that Rust reads: half a surrogate pair has no UTF-8, and becomes U+FFFD as everywhere on the web. */
export function json(value: unknown, name: string): string {
  const wellFormed = (text: string) => new TextDecoder().decode(new TextEncoder().encode(text));
  try {
    return JSON.stringify(value, (_, one) => (typeof one === "string" ? wellFormed(one) : one));
  } catch (error) {
    throw new TypeError(`${name} should be JSON values`, { cause: error });
  }
}

export function duration(value: unknown, name: string): number {
  const millis = check.number(value, name);
  if (millis >= 0) return millis;
  throw new TypeError(`${name} should be 0 or more milliseconds, got ${millis}`);
}

export function signal(value: unknown, name: string): AbortSignal {
  if (value instanceof AbortSignal) return value;
  throw new TypeError(`${name} should be an AbortSignal`);
}
