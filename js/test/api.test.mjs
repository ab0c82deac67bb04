// The API as an installed package offers it: behaviour that the vectors do not cover.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { crc32 as trusted } from "node:zlib";
import * as avp from "avp-wasm";
import { FrameTransform } from "avp-wasm/node";
import { suite } from "../conformance/suite.mjs";

suite(avp, test);

const noise = (length) => Uint8Array.from({ length }, (_, index) => (index * index) >> 5);
const [small, metadata] = [new Uint8Array([1, 2, 3]), { modelId: "m", extra: { "__proto__x": "1", ключ: "😀" } }];

test("the README's example runs as it is written", () => {
  const readme = readFileSync(new URL("../../bindings-wasm/npm/README.md", import.meta.url), "utf8");
  const program = fileURLToPath(new URL("readme.mjs", import.meta.url));
  writeFileSync(program, /```js\n([^]*?)```/.exec(readme)[1]);
  try {
    assert.equal(execFileSync(process.execPath, [program], { encoding: "utf8" }), "Qwen/Qwen2.5-0.5B 3\n");
  } finally {
    rmSync(program);
  }
});

test("a payload is a view of the caller's memory, and decoding it grows no memory", () => {
  const payload = new Uint8Array(128 << 20);
  const frame = avp.encode(metadata, payload);
  const before = process.memoryUsage().external;
  const decoded = avp.decode(frame);
  assert.equal(decoded.payload.buffer, frame.buffer);
  assert.equal(decoded.payload.byteOffset, decoded.payloadOffset);
  assert.equal(decoded.payload.length, payload.length);
  assert.equal(avp.unpack(decoded).buffer, frame.buffer);
  assert.ok(process.memoryUsage().external - before < 1 << 20);
  const padded = Buffer.concat([Buffer.alloc(7), avp.encode({}, small)]);
  assert.deepEqual([...avp.decode(padded.subarray(7)).payload], [1, 2, 3]);
});

test("a frame is written into memory that its sender keeps, even where the payload lies in it", () => {
  const memory = new Uint8Array(1024);
  const target = memory.subarray(24);
  for (const options of [{}, { dialect: "0.2" }, { alignment: 64 }, { compress: true }]) {
    for (const payload of [noise(300), [noise(7), noise(0), noise(200)]]) {
      const written = avp.encodeInto(target, metadata, payload, options);
      assert.deepEqual(written, avp.encode(metadata, payload, options));
      assert.deepEqual([written.buffer, written.byteOffset], [memory.buffer, 24]);
    }
  }
  const parts = [noise(100), noise(50)];
  memory.set(parts[0], 500);
  memory.set(parts[1], 30);
  assert.deepEqual(avp.encodeInto(memory, metadata, [memory.subarray(500, 600), memory.subarray(30, 80)]), avp.encode(metadata, parts));
  const needed = avp.encode(metadata, small).length;
  assert.throws(() => avp.encodeInto(new Uint8Array(needed - 1), metadata, small), { name: "EncodeError", code: "buffer_too_small" });
  assert.equal(avp.encodeInto(new Uint8Array(needed), metadata, small).length, needed);
});

test("metadata survives the way there and back, whatever its text", () => {
  const init = { ...metadata, sessionId: "\u0000\"\\", tensorShape: [1, 4294967295], payloadType: "kv_cache", dtype: "bfloat16" };
  const { metadata: found } = avp.decode(avp.encode(init, small));
  for (const [key, value] of Object.entries(init)) assert.deepEqual(found[key], value, key);
});

test("every field of the metadata comes back under its own name", () => {
  const { metadata: empty } = avp.decode(avp.encode({}, small, { dialect: "0.2" }));
  const typed = { payloadType: "kv_cache", dtype: "float16", tensorShape: [3, 4], mode: "hybrid", extra: { k: "v", l: "" }, confidenceScore: 0.5 };
  // Not written by this package.
  const read = { payloadChecksum: null, embeddingDim: 0, dataType: "", agentId: null, taskId: null };
  const others = Object.keys(empty).filter((name) => !(name in typed) && !(name in read));
  const init = { ...typed, ...Object.fromEntries(others.map((name, at) => [name, empty[name] === "" ? `text ${at}` : at + 1])) };
  assert.deepEqual(avp.decode(avp.encode(init, small, { dialect: "0.2" })).metadata, { ...init, ...read });
});

test("half a surrogate pair is a character of its own, which UTF-8 lacks", () => {
  const { metadata: found } = avp.decode(avp.encode({ sessionId: "\ud83d", sourceAgentId: "\ude00" }, small));
  assert.deepEqual([found.sessionId, found.sourceAgentId], ["\ufffd", "\ufffd"]);
});

test("metadata comes whole, however much and of whatever letters it is", () => {
  const long = "é".repeat(13) + "x".repeat(60_000);
  const extra = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`key ${index}`, `${index} 😀`]));
  const own = JSON.parse('{"__proto__":"none","constructor":"none"}');
  for (const init of [
    { modelId: long, sessionId: "\ufeffwith a mark", sourceAgentId: "é", targetAgentId: "a".repeat(25) },
    { extra, tensorShape: Array.from({ length: 500 }, (_, axis) => axis) },
    { extra: own },
    { modelId: "after the long ones" },
  ]) {
    const { metadata: found } = avp.decode(avp.encode(init, small));
    for (const [key, value] of Object.entries(init)) assert.deepEqual(found[key], value, key);
    assert.equal(Object.getPrototypeOf(found.extra), Object.prototype);
  }
});

test("a head is what the frame begins with", () => {
  for (const payload of [small, [noise(9), noise(90)], new Uint8Array()]) {
    for (const options of [{}, { dialect: "0.2" }, { alignment: 64 }, { checksum: false }]) {
      const head = avp.encodeHeader(metadata, payload, options);
      assert.deepEqual(Buffer.concat([head, ...[payload].flat()]), Buffer.from(avp.encode(metadata, payload, options)));
    }
  }
});

/** A frame's bytes up to where its metadata would begin. */
function header(payloadLength, metadataLength, magic = "AV") {
  const bytes = Buffer.alloc(12);
  bytes.write(magic);
  bytes[2] = 1;
  bytes.writeUint32LE(payloadLength, 4);
  bytes.writeUint32LE(metadataLength, 8);
  return bytes;
}

test("metadata that is too long is refused before it has come, and after what is wrong with the header itself", () => {
  const longest = 2 ** 20;
  const tooLong = { name: "DecodeError", code: "metadata_too_large", offset: 8 };
  assert.throws(() => avp.decodeHeader(header(longest + 1, longest + 1)), tooLong);
  assert.throws(() => avp.decode(header(longest + 1, longest + 1)), tooLong);
  assert.throws(() => new avp.FrameDecoder().feed(header(longest + 1, longest + 1)), tooLong);
  assert.throws(() => avp.decodeHeader(header(longest, longest)), { code: "truncated" });
  assert.throws(() => avp.decodeHeader(header(longest + 1, longest + 1, "PK")), { code: "bad_magic" });
  assert.throws(() => avp.decodeHeader(header(longest, longest + 1)), { code: "metadata_length" });
});

test("a confidence that is no number comes as it was sent", () => {
  const body = avp.encodeHybrid([{ kind: "text", data: "a", confidence: 0.75 }]);
  const place = Buffer.from(body).indexOf(Buffer.from(new Float32Array([0.75]).buffer));
  new DataView(body.buffer, body.byteOffset).setFloat32(place, NaN, true);
  assert.ok(Number.isNaN(avp.decodeHybrid(body).chunks[0].confidence));
  const frame = avp.encode({ confidenceScore: 0.75 }, small, { dialect: "0.2" });
  const at = Buffer.from(frame).indexOf(Buffer.from(new Float32Array([0.75]).buffer));
  new DataView(frame.buffer, frame.byteOffset).setFloat32(at, NaN, true);
  assert.ok(Number.isNaN(avp.decode(frame).metadata.confidenceScore));
  assert.throws(() => avp.encode({ confidenceScore: NaN }, small), TypeError);
  assert.equal(avp.parseFallbackRequest('{"session_id":"s","reason":"r","perplexity_score":1e999}').perplexityScore, Infinity);
});

test("what cannot be encoded is told by code", () => {
  const shape = { numLayers: 1, numKvHeads: 1, headDim: 1, seqLen: 1, dtype: "float32" };
  const layer = { key: new Uint8Array(4), value: new Uint8Array(3) };
  const cases = [
    [() => avp.encode({ mode: "hybrid" }, small), "not_in_dialect"],
    [() => avp.encode({}, small, { alignment: 3 }), "bad_alignment"],
    [() => avp.encodeKvCache(shape, [layer]), "kv_tensor"],
    [() => avp.encodeKvCache({ ...shape, numKvHeads: 2 ** 32 - 1, headDim: 2 ** 32 - 1, seqLen: 2 ** 32 - 1 }, [layer]), "kv_overflow"],
  ];
  for (const [call, code] of cases) assert.throws(call, { name: "EncodeError", code });
});

test("a packet that cannot be read is told by code and place, in every function", () => {
  for (const read of [avp.parsePacket, avp.explainPacket]) {
    assert.throws(() => read("no packet"), (error) => error instanceof avp.PacketError && error.code === "too_short");
  }
  assert.ok(avp.validatePacket("no packet").findings.some(({ code }) => code === "too_short"));
});

test("checksums of any length and any pieces agree with zlib's", { skip: !trusted && "this Node has no zlib.crc32" }, () => {
  for (const length of [0, 1, 17, 14_399, 14_400, 163_839, 163_840, 163_841, 500_000]) {
    const bytes = noise(length);
    assert.equal(avp.crc32(bytes), trusted(bytes), `${length}`);
    const middle = length >> 1;
    assert.equal(avp.crc32(bytes.subarray(middle), avp.crc32(bytes.subarray(0, middle))), trusted(bytes));
  }
});

test("compressed payloads come back, within their limit", () => {
  for (const length of [0, 1, 131_073, 3_000_000]) {
    const payload = noise(length);
    const frame = avp.decode(avp.encode({}, [payload.subarray(0, length >> 1), payload.subarray(length >> 1)], { compress: true }));
    assert.ok(frame.compressed);
    assert.deepEqual(avp.unpack(frame, { limit: length }), payload);
    if (length > 0) assert.throws(() => avp.unpack(frame, { limit: length - 1 }), { code: "decompressed_too_large" });
  }
});

test("a changed payload is found out, and only where asked", () => {
  const bytes = avp.encode({}, noise(99));
  bytes[bytes.length - 1] ^= 1;
  const frame = avp.decode(bytes);
  assert.throws(() => avp.unpack(frame), { name: "DecodeError", code: "checksum_mismatch", offset: frame.payloadOffset });
  assert.equal(avp.unpack(frame, { verify: false }).length, 99);
  assert.equal(avp.checksum(frame, frame.payload).ok, false);
});

test("frames are cut from a stream at every cut", () => {
  const frames = [avp.encode({ sessionId: "a" }, small), avp.encode({}, new Uint8Array()), avp.encode({ sessionId: "c" }, noise(200))];
  const stream = Buffer.concat(frames);
  for (const step of [1, 2, 11, 12, 13, 64, stream.length]) {
    const [decoder, found] = [new avp.FrameDecoder(), []];
    for (let at = 0; at < stream.length; at += step) found.push(...decoder.feed(stream.subarray(at, at + step)));
    decoder.finish();
    assert.deepEqual(found.map(({ metadata, payload }) => [metadata.sessionId, payload.length]), [["a", 3], ["", 0], ["c", 200]], `${step}`);
  }
});

test("a stream ends in order, is refused early, and stays refused", () => {
  const decoder = new avp.FrameDecoder({ frameLimit: 100 });
  const frame = avp.encode({ sessionId: "s" }, small);
  assert.deepEqual(decoder.feed(frame.subarray(0, 22)), []);
  assert.equal(decoder.head()?.metadata.sessionId, "s");
  assert.throws(() => decoder.finish(), { code: "truncated", offset: 22 });
  assert.equal(decoder.feed(frame.subarray(22)).length, 1);
  assert.throws(() => new avp.FrameDecoder().feed(new Uint8Array([0x50, 0x4b])), { code: "bad_magic" });
  const large = avp.encode({}, noise(200));
  for (const chunk of [large, small]) assert.throws(() => decoder.feed(chunk), { code: "frame_too_large", offset: 4 });
  const mixed = new avp.FrameDecoder();
  assert.equal(mixed.feed(Buffer.concat([frame, Buffer.from("no frame")])).length, 1);
  assert.throws(() => mixed.feed(small), { code: "bad_magic" });
});

test("both kinds of streams give frames, and pass on what is wrong", async () => {
  const bytes = Buffer.concat([avp.encode({}, small), avp.encode({}, noise(9))]);
  const web = new Blob([bytes]).stream().pipeThrough(new avp.FrameDecoderStream());
  const lengths = [];
  for await (const frame of web) lengths.push(frame.payload.length);
  assert.deepEqual(lengths, [3, 9]);
  const node = new FrameTransform();
  const found = [];
  node.on("data", (frame) => found.push(frame.payload.length));
  node.write(bytes.subarray(0, 20));
  node.end(bytes.subarray(20));
  await once(node, "end");
  assert.deepEqual(found, [3, 9]);
  const broken = new FrameTransform();
  broken.end(bytes.subarray(0, 20));
  const [error] = await once(broken, "error");
  assert.ok(error instanceof avp.DecodeError && error.code === "truncated");
});

test("a KV-cache is viewed where it lies, and cut by tokens", () => {
  const shape = { numLayers: 2, numKvHeads: 2, headDim: 3, seqLen: 4, dtype: "float32" };
  const tensor = (start) => new Uint8Array(Float32Array.from({ length: 24 }, (_, index) => start + index).buffer);
  const layers = [0, 100].map((start) => ({ key: tensor(start), value: tensor(start + 50) }));
  const payload = avp.encodeKvCache(shape, layers);
  const bytes = avp.encode({ payloadType: "kv_cache" }, payload, { alignment: 64 });
  const cache = new avp.KvCacheView(avp.decode(bytes).payload);
  assert.deepEqual({ ...cache.shape }, shape);
  const keys = cache.typed(1, "key");
  assert.equal(keys.buffer, bytes.buffer);
  assert.equal(keys[23], 123);
  assert.equal(new avp.KvCacheView(payload).typed(0, "key"), null, "17 bytes of header are no alignment");
  assert.deepEqual(new avp.KvCacheView(payload).toFloat32(1, "value"), Float32Array.from({ length: 24 }, (_, index) => 150 + index));
  assert.equal(cache.head(0, "value", 1).length, 48);
  const tokens = cache.head(1, "key", 1, 1, 3);
  assert.equal(tokens.buffer, bytes.buffer);
  assert.deepEqual([...new Float32Array(tokens.slice().buffer)], [115, 116, 117, 118, 119, 120]);
  const cut = new avp.KvCacheView(cache.sliceTokens(1, 3));
  assert.equal(cut.shape.seqLen, 2);
  assert.deepEqual([...cut.toFloat32(1, "key")], [103, 104, 105, 106, 107, 108, 115, 116, 117, 118, 119, 120]);
  assert.equal(new avp.KvCacheView(cache.sliceTokens(2, 2)).shape.seqLen, 0);
  assert.throws(() => cache.layer(2), RangeError);
  assert.throws(() => cache.sliceTokens(3, 5), RangeError);
  assert.throws(() => cache.head(0, "key", 2), RangeError);
  assert.throws(() => cache.head(0, "key", 0, 3, 5), RangeError);
  assert.throws(() => avp.encodeKvCache(shape, [{ key: small, value: small }]), { name: "EncodeError", code: "kv_layers" });
});

test("half-precision numbers are those of their formula", () => {
  const bits = Uint16Array.from({ length: 65_536 }, (_, index) => index);
  const tensor = new Uint8Array(bits.buffer);
  const cache = (dtype) => {
    const shape = { numLayers: 1, numKvHeads: 1, headDim: 1, seqLen: 65_536, dtype };
    return new avp.KvCacheView(avp.encodeKvCache(shape, [{ key: tensor, value: tensor }])).toFloat32(0, "key");
  };
  const [half, brain] = [cache("float16"), cache("bfloat16")];
  const number = (index, exponentBits, fractionBits) => {
    const sign = index >> 15 ? -1 : 1;
    const [exponent, fraction] = [(index >> fractionBits) & (2 ** exponentBits - 1), index & (2 ** fractionBits - 1)];
    const bias = 2 ** (exponentBits - 1) - 1;
    if (exponent === 2 ** exponentBits - 1) return fraction ? NaN : sign * Infinity;
    return sign * (fraction / 2 ** fractionBits + (exponent ? 1 : 0)) * 2 ** ((exponent || 1) - bias);
  };
  for (const index of bits) {
    assert.ok(Object.is(half[index], number(index, 5, 10)), `float16 ${index}`);
    assert.ok(Object.is(brain[index], number(index, 8, 7)), `bfloat16 ${index}`);
  }
});

test("hybrid chunks are views of their payload", () => {
  const payload = avp.encodeHybrid([{ kind: "latent", data: small, confidence: 0.5 }, { kind: "text", data: "déjà vu" }, { kind: 7, data: small }]);
  const hybrid = avp.decodeHybrid(payload);
  assert.equal(hybrid.text, "déjà vu");
  assert.equal(hybrid.latent.buffer, payload.buffer);
  assert.deepEqual(hybrid.chunks.map(({ kind, confidence }) => [kind, confidence]), [["latent", 0.5], ["text", 0], [7, 0]]);
});

const named = (name) => (error) => error instanceof TypeError && error.message.startsWith(`${name}: `);

test("every argument of a wrong type is a TypeError that names it", () => {
  const shared = new Uint8Array(new SharedArrayBuffer(16));
  const resizable = new Uint8Array(new ArrayBuffer(16, { maxByteLength: 32 }));
  const detached = new Uint8Array(16);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const proxy = new Proxy(new Uint8Array(16), {});
  for (const wrong of [null, undefined, "bytes", 7, {}, [1, 2], new ArrayBuffer(8), new Uint16Array(4), new DataView(new ArrayBuffer(4)), shared, resizable, detached, proxy]) {
    assert.throws(() => avp.decode(wrong), named("bytes"));
    assert.throws(() => avp.decodeHeader(wrong), named("bytes"));
    assert.throws(() => avp.crc32(wrong), named("bytes"));
    assert.throws(() => avp.decodeHybrid(wrong), named("payload"));
    assert.throws(() => new avp.KvCacheView(wrong), named("payload"));
    assert.throws(() => new avp.FrameDecoder().feed(wrong), named("chunk"));
    assert.throws(() => avp.encode({}, [small, wrong]), named("payload[1]"));
    assert.throws(() => avp.encodeInto(wrong, {}, small), named("target"));
    assert.throws(() => avp.encodeHeader({}, [small, wrong]), named("payload[1]"));
    assert.throws(() => avp.unpack({ ...avp.decode(avp.encode({}, small)), payload: wrong }), named("frame.payload"));
    assert.throws(() => avp.checksum(avp.decode(avp.encode({}, small)), wrong), named("payload"));
    assert.throws(() => avp.encodeKvCache({ numLayers: 1, numKvHeads: 1, headDim: 1, seqLen: 1, dtype: "float32" }, [{ key: small, value: wrong }]), named("layers[0].value"));
    if (typeof wrong !== "string") assert.throws(() => avp.encodeHybrid([{ kind: "text", data: wrong }]), named("chunks[0].data"));
  }
  const cases = [
    [() => avp.encode(null, small), "metadata"],
    [() => avp.encode(undefined, small), "metadata"],
    [() => avp.checksum(undefined, small), "frame"],
    [() => avp.checksum({}, small), "frame.metadata"],
    [() => avp.encode({ hiddenDim: -1 }, small), "metadata.hiddenDim"],
    [() => avp.encode({ hiddenDim: 1n }, small), "metadata.hiddenDim"],
    [() => avp.encode({ mode: "Latent" }, small), "metadata.mode"],
    [() => avp.encode({ payloadType: "" }, small), "metadata.payloadType"],
    [() => avp.encode({ extra: { a: 1 } }, small), "metadata.extra.a"],
    [() => avp.encode({ tensorShape: [1.5] }, small), "metadata.tensorShape[0]"],
    [() => avp.encode({}, small, { dialect: "0.4" }), "options.dialect"],
    [() => avp.unpack(null), "frame"],
    [() => avp.unpack(avp.decode(avp.encode({}, small)), { limit: "1" }), "options.limit"],
    [() => avp.resolve(null, {}), "local"],
    [() => avp.formatHello({ capabilities: { a: 1n } }), "hello.capabilities"],
    [() => avp.parseHello(Buffer.from("{}")), "text"],
    [() => avp.parsePacket(null), "text"],
    [() => avp.validatePacket("x", { profile: "loose" }), "options.profile"],
    [() => avp.buildPacket({ task: "FETCH", domain: "HR" }), "init.returnAgent"],
    [() => new avp.Workflows().encode("payroll", "log_run", { period: {} }), "args.period"],
    [() => new avp.Rules(null), "rules"],
    [() => new avp.SessionManager().create({ agents: "a" }), "init.agents"],
  ];
  for (const [call, name] of cases) {
    assert.throws(call, named(name), name);
  }
});

test("no bytes make the module fail, and it works after any", () => {
  const whole = avp.encode({ ...metadata, payloadType: "kv_cache" }, noise(40));
  for (let at = 0; at < whole.length; at += 1) {
    for (const value of [0, 0x7f, 0xff]) {
      const bytes = whole.slice();
      bytes[at] = value;
      for (const input of [bytes, bytes.subarray(0, at)]) {
        try {
          const frame = avp.decode(input);
          avp.unpack(frame);
          new avp.KvCacheView(frame.payload);
        } catch (error) {
          assert.ok(error instanceof avp.DecodeError && error.code !== "internal", String(error.stack));
        }
      }
    }
  }
  assert.equal(avp.decode(whole).payload.length, 40);
});

test("spans and offsets are those of JavaScript's strings", () => {
  const text = "FETCH|HR|return:Ä😀|aacp:1.2|nope:😀|resss:x";
  const { findings } = avp.validatePacket(text);
  assert.deepEqual(findings.map(({ code, span }) => [code, text.slice(span.start, span.end)]), [["unknown_field", "nope"], ["unknown_field", "resss"]]);
  const packet = avp.parsePacket(text);
  assert.deepEqual(packet.fields.map(({ valueSpan, raw }) => text.slice(valueSpan.start, valueSpan.end) === raw), [true, true, true, true]);
  const json = '{"é😀": x}';
  assert.throws(() => avp.modelHash(json), (error) => error instanceof avp.JsonError && json[error.offset] === "x");
});

test("a fix mends what it was offered for", () => {
  const text = "fetch|HR|return:A|aacp:1.2";
  const [{ span, fix }] = avp.validatePacket(text).findings;
  assert.equal(fix.action, "replace");
  assert.ok(avp.validatePacket(text.slice(0, span.start) + fix.text + text.slice(span.end), { profile: "strict" }).valid);
});

test("packets are built, and what cannot be is told by code", () => {
  const init = { task: "FETCH", domain: "HR", returnAgent: "HR-Agent", priority: 1, fields: { period: "2024-08", to: ["a", "b"] } };
  assert.equal(avp.buildPacket(init), "FETCH|HR|return:HR-Agent|p:1|aacp:1.2|period:2024-08|to:a,b");
  assert.equal(avp.parsePacket(avp.buildPacket({ ...init, fields: { subj: "a|b" } })).fields.at(-1).value, "a|b");
  assert.throws(() => avp.buildPacket({ ...init, task: "NOPE" }), { name: "PacketError", code: "unknown_task" });
  assert.throws(() => avp.buildPacket({ ...init, version: "9" }), { code: "unknown_version" });
  assert.ok(avp.buildPacket({ ...init, task: "AUDIT", vocabulary: { tasks: ["AUDIT"] } }));
  assert.ok(avp.standardVocabulary().tasks.includes("FETCH"));
});

test("workflow tables and rules of a user's own serve and are refused by code", () => {
  const call = { name: "ask", about: "", required: ["who"], packet: "FETCH|HR|return:{who}" };
  const table = JSON.stringify({ workflows: [{ name: "mine", calls: [call] }] });
  assert.deepEqual(new avp.Workflows(table).encode("mine", "ask", { who: "A" }), ["FETCH|HR|return:A|aacp:1.2"]);
  assert.throws(() => new avp.Workflows("[]"), { code: "bad_table" });
  assert.throws(() => new avp.Workflows().encode("payroll", "nope", {}), { code: "unknown_call" });
  assert.ok(new avp.Workflows().list().some(({ name }) => name === "payroll"));
  const rule = { id: "r1", name: "Payroll report", description: "Generate the monthly report", task: "REPORT", dom: "HR", packet: "REPORT|HR|return:A|aacp:1.2|fmt:pdf", tags: ["payroll"] };
  const rules = new avp.Rules(JSON.stringify([rule, { id: "r2", packet: "no packet" }]));
  assert.deepEqual([rules.count, rules.refused], [1, [{ index: 1, code: "too_short" }]]);
  const instruction = { english: "Generate the monthly payroll report.", domain: "HR", returnAgent: "HR-Agent" };
  assert.equal(rules.encode(instruction).packet, "REPORT|HR|return:HR-Agent|aacp:1.2|fmt:pdf");
  assert.throws(() => rules.encode({ ...instruction, english: "Something else" }), { code: "no_rule" });
  assert.throws(() => new avp.Rules("nonsense"), { code: "bad_rules" });
});

test("sessions live as long as they should", () => {
  let time = 0;
  const sessions = new avp.SessionManager({ ttl: 100, now: () => time });
  const [first, second] = [sessions.create({ agents: ["a", "b"], mode: "json" }), sessions.create({ agents: ["b"], ttl: 50 })];
  assert.match(first.id, /^[0-9a-f]{32}$/);
  assert.deepEqual([sessions.activeCount, sessions.find("b").length, sessions.find("a").length], [2, 2, 1]);
  time = 51;
  assert.equal(sessions.get(second.id), null);
  assert.deepEqual(sessions.get(first.id), first);
  time = 101;
  assert.deepEqual([sessions.cleanupExpired(), sessions.activeCount, sessions.invalidate(first.id)], [1, 0, false]);
});

test("a hello says which dialect its agent reads", () => {
  const hello = avp.parseHello(avp.formatHello({ agentId: "a", avpVersion: "0.2.1", identity: { hiddenDim: 8 }, capabilities: { x: [1, "é"] } }));
  assert.deepEqual([hello.agentId, avp.dialectOf(hello.avpVersion), hello.identity.hiddenDim, hello.capabilities], ["a", "0.2", 8, { x: [1, "é"] }]);
  assert.equal(avp.dialectOf("1.0"), null);
  assert.throws(() => avp.parseHello("[]"), { name: "JsonError", code: "bad_field" });
  assert.deepEqual(avp.parseFallbackRequest(avp.formatFallbackRequest({ sessionId: "s", reason: "r", perplexityScore: 2.5 })), { sessionId: "s", reason: "r", perplexityScore: 2.5 });
});
