// The head of a frame: the one list of its fields, as they are passed to Rust and come from it.

import type * as api from "../api.js";
import * as check from "./check.js";

export const HEADER = 12;

type Maybe<T> = T | null | undefined;

/** Makes the object of a head. Rust calls it (`head_values!`) and leaves out text, names and lists equal to their default. */
export function headOf(
  dialect: Maybe<string>,
  flags: number,
  flagNames: Maybe<string[]>,
  payloadLength: number,
  metadataLength: number,
  sessionId: Maybe<string>,
  sourceAgentId: Maybe<string>,
  targetAgentId: Maybe<string>,
  modelId: Maybe<string>,
  hiddenDim: number,
  numLayers: number,
  payloadType: Maybe<string>,
  dtype: Maybe<string>,
  tensorShape: Maybe<ArrayLike<number>>,
  mode: Maybe<string>,
  avpMapId: Maybe<string>,
  extra: Maybe<string[]>,
  confidenceScore: Maybe<number>,
  payloadChecksum: Maybe<number>,
  embeddingDim: number,
  dataType: Maybe<string>,
  agentId: Maybe<string>,
  taskId: Maybe<string>,
): api.FrameHead {
  return {
    dialect: (dialect ?? null) as api.FrameHead["dialect"],
    version: 1,
    flags,
    flagNames: flagNames ?? [],
    payloadLength,
    metadataLength,
    payloadOffset: HEADER + metadataLength,
    frameLength: HEADER + payloadLength,
    compressed: (flags & 1) === 1,
    metadata: {
      sessionId: sessionId ?? "",
      sourceAgentId: sourceAgentId ?? "",
      targetAgentId: targetAgentId ?? "",
      modelId: modelId ?? "",
      hiddenDim,
      numLayers,
      payloadType: (payloadType ?? "hidden_state") as api.Metadata["payloadType"],
      dtype: (dtype ?? "float32") as api.Metadata["dtype"],
      tensorShape: tensorShape ? Array.from(tensorShape) : [],
      mode: (mode ?? "latent") as api.Metadata["mode"],
      avpMapId: avpMapId ?? "",
      extra: objectOf(extra ?? []),
      confidenceScore: confidenceScore ?? null,
      payloadChecksum: payloadChecksum ?? null,
      embeddingDim,
      dataType: dataType ?? "",
      agentId: agentId ?? null,
      taskId: taskId ?? null,
    },
  };
}

/** The first arguments of `encodeHead`. */
export function metadataArguments(init: unknown) {
  const metadata = check.object(init ?? null, "metadata");
  const text = (key: keyof api.MetadataInit) => check.optional(metadata[key], `metadata.${key}`, check.text);
  const count = (key: keyof api.MetadataInit) => check.optional(metadata[key], `metadata.${key}`, check.u32) ?? 0;
  return [
    text("sessionId"),
    text("sourceAgentId"),
    text("targetAgentId"),
    text("modelId"),
    count("hiddenDim"),
    count("numLayers"),
    text("payloadType"),
    text("dtype"),
    shapeOf(metadata["tensorShape"] ?? []),
    text("mode"),
    text("avpMapId"),
    pairsOf(metadata["extra"] ?? undefined),
    check.optional(metadata["confidenceScore"], "metadata.confidenceScore", check.number),
  ] as const;
}

const NO_SHAPE = new Uint32Array(0);

function shapeOf(value: unknown): Uint32Array {
  const shape = check.list(value, "metadata.tensorShape", check.u32);
  return shape.length === 0 ? NO_SHAPE : Uint32Array.from(shape);
}

/** Keys and values in turn. */
function pairsOf(value: unknown): string[] {
  const pairs: string[] = [];
  for (const [key, text] of Object.entries(check.object(value, "metadata.extra"))) {
    pairs.push(key, check.text(text, `metadata.extra.${key}`));
  }
  return pairs;
}

/** Of pairs with one key, the last counts. */
function objectOf(pairs: readonly string[]): Record<string, string> {
  const object: Record<string, string> = {};
  for (let at = 0; at < pairs.length; at += 2) {
    const [key, value] = [pairs[at]!, pairs[at + 1]!];
    if (key !== "__proto__") object[key] = value;
    // An assignment would set the prototype.
    else Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
  }
  return object;
}
