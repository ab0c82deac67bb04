// What only the module of `avp-wasm` has: a memory of its own, which must stay small, and instances that can fail.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as slim from "avp-wasm/slim";

const { Instance } = WebAssembly;
/** The exports of the newest instance. */
let exports;
/** The export that fails at its next call, and its error. */
let failing = [];
WebAssembly.Instance = function (...given) {
  ({ exports } = new Instance(...given));
  const fail = () => {
    const [, error] = failing;
    failing = [];
    throw error;
  };
  return { exports: new Proxy({ ...exports }, { get: (all, name) => (name === failing[0] ? fail : all[name]) }) };
};
slim.initSync(readFileSync(new URL(import.meta.resolve("avp-wasm/avp.wasm"))));

test("frames of 128 MiB, packed or not, do not grow the module's memory", () => {
  const pass = (length) => slim.unpack(slim.decode(slim.encode({ modelId: "m" }, new Uint8Array(length)))).length;
  pass(1024);
  const { memory } = exports;
  const before = memory.buffer.byteLength;
  assert.equal(pass(2 ** 27), 2 ** 27);
  assert.equal(memory.buffer.byteLength, before);
  // The frame's own window and the block at hand are all that stays, however long the payload.
  const packed = (length) => slim.decode(slim.encode({}, new Uint8Array(length).fill(7), { compress: true }));
  slim.unpack(packed(2 ** 23));
  const unpacking = memory.buffer.byteLength;
  assert.equal(slim.unpack(packed(2 ** 27)).length, 2 ** 27);
  assert.equal(memory.buffer.byteLength, unpacking);
});

test("an instance that failed is replaced, and objects of the old one are made anew", () => {
  const frame = slim.encode({ modelId: "m" }, new Uint8Array(3));
  const workflows = new slim.Workflows();
  const rules = new slim.Rules('[{"id":"r","name":"Payroll","packet":"LOG|HR|return:A"}]');
  for (const [error, expected] of [
    [new WebAssembly.RuntimeError("unreachable"), { name: "AvpError", code: "internal" }],
    [new RangeError("no memory for a copy"), { name: "RangeError" }],
  ]) {
    const failed = exports;
    failing = ["decodeHead", error];
    assert.throws(() => slim.decode(frame), expected);
    assert.equal(slim.decode(frame).metadata.modelId, "m");
    assert.notEqual(exports, failed);
    assert.ok(workflows.list().length > 0);
    assert.equal(rules.find("payroll")[0].rule.id, "r");
  }
});

test("an error of the data keeps the instance", () => {
  const before = exports;
  assert.throws(() => slim.decode(new Uint8Array(12)), { code: "bad_magic" });
  assert.equal(exports, before);
});

test("a hybrid payload that the module cannot hold is refused", () => {
  const payload = new Uint8Array(2 ** 31);
  assert.throws(() => slim.decodeHybrid(payload), { name: "AvpError", code: "out_of_memory" });
});
