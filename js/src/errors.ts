// What goes wrong: with the data (AvpError and its kin), or with the caller's arguments (TypeError, RangeError).

import type { SignatureErrorCode } from "../api.js";

export class AvpError extends Error {
  // Named by hand, here and below: minifiers rename classes.
  override name = "AvpError";
  readonly code: string;
  readonly offset: number | null;

  constructor(message: string, code: string, offset: number | null = null) {
    super(message);
    this.code = code;
    this.offset = offset;
  }
}

export class DecodeError extends AvpError {
  override name = "DecodeError";
}
export class EncodeError extends AvpError {
  override name = "EncodeError";
}
export class JsonError extends AvpError {
  override name = "JsonError";
}
export class PacketError extends AvpError {
  override name = "PacketError";
}

export class SignatureError extends AvpError {
  override name = "SignatureError";
  declare readonly code: SignatureErrorCode;
}

/** A model that cannot be loaded, a run that did not finish, a context that cannot be used: `avp-node` alone has it. */
export class RuntimeError extends AvpError {
  override name = "RuntimeError";
}

const KINDS = { decode: DecodeError, encode: EncodeError, json: JsonError, packet: PacketError, runtime: RuntimeError };

/** An error as Rust describes it. */
export interface Fault {
  kind: string;
  code: string;
  offset?: number | null;
  message: string;
}

export function errorOf(fault: Fault): Error {
  if (fault.kind === "argument") return new TypeError(fault.message);
  const Kind = KINDS[fault.kind as keyof typeof KINDS] ?? AvpError;
  return new Kind(fault.message, fault.code, fault.offset ?? null);
}
