// Sample frames, encoded by the package on request.

import { encode, encodeHybrid, encodeKvCache, modelHash, type KvShape } from "avp-wasm";

const SHAPE: KvShape = { numLayers: 6, numKvHeads: 4, headDim: 16, seqLen: 96, dtype: "float32" };

const samples: Record<string, () => Uint8Array> = {
  "kv-cache": () => kvFrame(0),
  "kv-cache-b": () => kvFrame(0.05),
  hybrid: () =>
    encode(
      { modelId: "Qwen/Qwen2.5-0.5B", sourceAgentId: "planner", targetAgentId: "writer", hiddenDim: 8, mode: "hybrid", confidenceScore: 0.9 },
      encodeHybrid([
        { kind: "text", data: "Summarise the second chapter.", confidence: 0.9 },
        { kind: "latent", data: new Uint8Array(new Float32Array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]).buffer) },
      ]),
      { dialect: "0.2" },
    ),
  broken: () => {
    const bytes = kvFrame(0);
    bytes[3]! ^= 0x40;
    return bytes;
  },
};

export function sample(name: string): Blob {
  const make = samples[name];
  if (!make) throw new RangeError(`unknown sample ${name}`);
  return new Blob([make() as BlobPart]);
}

/** Waves that differ by layer and head, for a visible pattern. */
function kvFrame(shift: number): Uint8Array {
  const { numLayers, numKvHeads, seqLen, headDim } = SHAPE;
  const tensor = (layer: number, phase: number) =>
    new Uint8Array(
      Float32Array.from({ length: numKvHeads * seqLen * headDim }, (_, index) => {
        const head = Math.floor(index / (seqLen * headDim));
        const token = Math.floor(index / headDim) % seqLen;
        return Math.sin(index * 1.7 + phase) * (1 + layer / 4 + Math.sin(token / (4 + head) + layer) + shift * layer);
      }).buffer,
    );
  const layers = Array.from({ length: numLayers }, (_, layer) => ({ key: tensor(layer, 0), value: tensor(layer, 1) }));
  const metadata = {
    modelId: "Qwen/Qwen2.5-0.5B", sourceAgentId: "planner", targetAgentId: "writer", sessionId: "demo",
    hiddenDim: 896, numLayers, payloadType: "kv_cache" as const,
    extra: { model_family: "qwen2", model_hash: modelHash(`{"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": ${numLayers}}`) },
  };
  return encode(metadata, encodeKvCache(SHAPE, layers), { alignment: 64 });
}
