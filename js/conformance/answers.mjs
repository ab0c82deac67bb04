// Runs the operations of the conformance cases with a binding (test-vectors/avp/README.md): JSON in, JSON out.

import { createHash } from "node:crypto";

export const hex = (bytes) => Buffer.from(bytes).toString("hex");
export const unhex = (text) => new Uint8Array(Buffer.from(text, "hex"));

const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const renamed = (object, rename) => Object.fromEntries(Object.entries(object).map(([key, value]) => [rename(key), value]));

/** The binding's result, or its error in the form of the cases. */
export function answerWith(api, operation, input) {
  try {
    return { found: OPERATIONS[operation](api, input) };
  } catch (error) {
    if (!(error instanceof api.AvpError)) throw error;
    return { error: { kind: error.code, offset: error.offset, message: error.message } };
  }
}

const OPERATIONS = {
  "frame.decode": (api, { hex: text, limit }) => {
    const frame = api.decode(unhex(text));
    const { metadata } = frame;
    const payload = api.unpack(frame, { limit });
    const hybrid = metadata.mode === "hybrid" ? api.decodeHybrid(payload) : null;
    const tensor = hybrid ? (hybrid.latent ?? new Uint8Array()) : payload;
    const { payloadLength, metadataLength, dialect, version, flags, compressed } = frame;
    return {
      ...renamed(metadata, snake),
      dialect,
      version,
      flags,
      compressed,
      payload_length: payloadLength,
      metadata_length: metadataLength,
      text: hybrid?.text ?? null,
      chunks: hybrid && chunks(hybrid),
      checksum: api.checksum(frame, payload),
      payload_bytes: tensor.length,
      payload_hex: hex(tensor),
      payload_sha256: createHash("sha256").update(tensor).digest("hex"),
    };
  },
  "frame.encode": (api, fields) => {
    const parts = fields.chunks?.map(({ kind, hex: data, confidence }) => ({ kind, data: unhex(data), confidence }));
    const payload = fields.mode === "hybrid" ? api.encodeHybrid(parts) : unhex(fields.payload_hex);
    const { dialect, compressed: compress } = fields;
    const checksum = Boolean(fields.checksum);
    return { hex: hex(api.encode(renamed(fields, camel), payload, { dialect, compress, checksum })) };
  },
  "hybrid.decode": (api, { hex: text }) => {
    const hybrid = api.decodeHybrid(unhex(text));
    return { text: hybrid.text, chunks: chunks(hybrid) };
  },
  "kv.decode": (api, { hex: text }) => {
    const cache = new api.KvCacheView(unhex(text));
    const layers = Array.from({ length: cache.shape.numLayers }, (_, index) => cache.layer(index));
    return {
      ...renamed(cache.shape, snake),
      tensor_bytes: 2 * cache.shape.numLayers * cache.tensorLength,
      layers: layers.map(({ key, value }) => ({ key: hex(key), value: hex(value) })),
    };
  },
  "handshake.resolve": (api, { local, remote, shared_tokens: sharedTokens }) => {
    const resolution = api.resolve(renamed(local, camel), renamed(remote, camel), { sharedTokens });
    return { mode: resolution.mode, avp_map_id: resolution.avpMapId, resolution_path: resolution.rule };
  },
  "handshake.hello": (api, { json }) => ({ json: JSON.parse(api.formatHello(api.parseHello(json))) }),
  json_message: (api, { json }) => ({ json: JSON.parse(api.formatJsonMessage(api.parseJsonMessage(json))) }),
  "hash.model": (api, { json }) => ({ sha256: api.modelHash(json) }),
  "hash.tokenizer": (api, { json }) => ({ sha256: api.tokenizerHash(json) }),
  identity: (api, { json }) => {
    const { tokenizerHash, ...identity } = api.identityFromConfig(json);
    return renamed(tokenizerHash ? { ...identity, tokenizerHash } : identity, snake);
  },
};

/** Operations of the core that the bindings lack, with the reason. */
export const LEFT_OUT = { "kv.gather": "paged blocks are for inference engines" };

const chunks = (hybrid) =>
  hybrid.chunks.map(({ kind, data, confidence }) => ({
    kind: typeof kind === "number" ? "other" : kind,
    bytes: data.length,
    confidence,
    hex: hex(data),
  }));
