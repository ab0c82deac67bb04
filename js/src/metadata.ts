// The head of a frame: its fields, in the order of `metadata_fields!` in `avp-core/src/metadata/mod.rs`.

import type * as api from "../api.js";
import * as check from "./check.js";
import { RowReader, type RowWriter } from "./row.js";

export const HEADER = 12;

/** Makes the object of a head. Rust calls it with what `Row::of` writes. */
export function headOf(numbers: Float64Array, text: string): api.FrameHead {
  const row = new RowReader(numbers, text);
  const dialect = row.optionalText() as api.FrameHead["dialect"];
  const flags = row.number();
  const flagNames = row.texts();
  const payloadLength = row.number();
  const metadataLength = row.number();
  return {
    dialect,
    version: 1,
    flags,
    flagNames,
    payloadLength,
    metadataLength,
    payloadOffset: HEADER + metadataLength,
    frameLength: HEADER + payloadLength,
    compressed: (flags & 1) === 1,
    metadata: {
      sessionId: row.text(),
      sourceAgentId: row.text(),
      targetAgentId: row.text(),
      modelId: row.text(),
      hiddenDim: row.number(),
      numLayers: row.number(),
      payloadType: row.text() as api.Metadata["payloadType"],
      dtype: row.text() as api.Metadata["dtype"],
      tensorShape: row.numbers(),
      mode: row.text() as api.Metadata["mode"],
      avpMapId: row.text(),
      extra: objectOf(row.texts()),
      confidenceScore: row.optionalNumber(),
      payloadChecksum: row.optionalNumber(),
      embeddingDim: row.number(),
      dataType: row.text(),
      agentId: row.optionalText(),
      taskId: row.optionalText(),
    },
  };
}

/** Writes metadata to encode: its two lists, then the other fields. Rust checks the names of enum values. */
export function writeMetadata(init: unknown, row: RowWriter): void {
  const metadata = check.object(init ?? null, "metadata");
  type Key = keyof api.MetadataInit;
  const given = <T>(key: Key, type: (value: unknown, name: string) => T) => check.optional(metadata[key], `metadata.${key}`, type);
  const text = (key: Key) => row.addText(given(key, check.text) ?? "");
  const count = (key: Key) => row.addNumber(given(key, check.u32) ?? 0);
  const name = (key: Key) => row.addOptionalText(given(key, check.text));
  row.addNumbers(check.list(metadata["tensorShape"] ?? [], "metadata.tensorShape", check.u32));
  row.addTexts(pairsOf(metadata["extra"] ?? undefined));
  text("sessionId");
  text("sourceAgentId");
  text("targetAgentId");
  text("modelId");
  count("hiddenDim");
  count("numLayers");
  name("payloadType");
  name("dtype");
  name("mode");
  text("avpMapId");
  row.addOptionalNumber(given("confidenceScore", check.number));
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
