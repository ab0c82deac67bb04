// What only the module of `avp-wasm` has: a memory of its own, which must stay small.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

test("frames of 128 MiB, packed or not, do not grow the module's memory", async () => {
  const { Instance } = WebAssembly;
  let memory;
  WebAssembly.Instance = function (...given) {
    const instance = new Instance(...given);
    ({ memory } = instance.exports);
    return instance;
  };
  try {
    const slim = await import("avp-wasm/slim");
    slim.initSync(readFileSync(new URL(import.meta.resolve("avp-wasm/avp.wasm"))));
    const pass = (length) => slim.unpack(slim.decode(slim.encode({ modelId: "m" }, new Uint8Array(length)))).length;
    pass(1024);
    const before = memory.buffer.byteLength;
    assert.equal(pass(2 ** 27), 2 ** 27);
    assert.equal(memory.buffer.byteLength, before);
    // The frame's own window and the block at hand are all that stays, however long the payload.
    const packed = (length) => slim.decode(slim.encode({}, new Uint8Array(length).fill(7), { compress: true }));
    slim.unpack(packed(2 ** 23));
    const unpacking = memory.buffer.byteLength;
    assert.equal(slim.unpack(packed(2 ** 27)).length, 2 ** 27);
    assert.equal(memory.buffer.byteLength, unpacking);
  } finally {
    WebAssembly.Instance = Instance;
  }
});
