// The runtime as an installed package offers it, on the model that the repository brings.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after } from "node:test";
import { fileURLToPath } from "node:url";
import * as avp from "avp-node";

const { Context, Model, RuntimeError } = avp;
const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(root, "models/facts");
const files = mkdtempSync(join(tmpdir(), "avp-contexts-"));
after(() => rmSync(files, { recursive: true, force: true }));

const NOTES = "Notes: Rosa lives in Lisbon. Rosa has a parrot.";
const QUESTION = "Where does Rosa live?";
const ANSWER = "Answer: Rosa lives in Lisbon.";
/** An answer that would go on for as long as the window lets it. */
const LONG = { ignoreEndOfTurn: true, maxTokens: 900 };

const model = await Model.load(folder);
const { context } = await model.think(NOTES, { steps: 8 });

/** What an installed program prints, in a process of its own. */
function printed(program, env = process.env) {
  const file = join(root, `program-${process.pid}.mjs`);
  writeFileSync(file, program);
  try {
    return execFileSync(process.execPath, [file], { cwd: root, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } finally {
    rmSync(file);
  }
}

test("what one instance thought, another answers from, as Rust does", async () => {
  const other = await Model.load(folder, { threads: 1 });
  const frame = await context.toFrame({ sessionId: "s", alignment: 64 });
  assert.equal(avp.decode(frame).metadata.sessionId, "s");
  const received = await Context.fromFrame(frame);
  assert.equal(other.accepts(received), "hash_match");
  const { text, finish, contextTokens } = await other.generate(QUESTION, { context: received });
  assert.deepEqual([text, finish, contextTokens], [ANSWER, "end_of_turn", context.seqLen]);
});

test("both examples of the README run as they are written", () => {
  const readme = readFileSync(join(root, "bindings-node/npm/README.md"), "utf8");
  const [, models, frames] = [...readme.matchAll(/```js\n([^]*?)```/g)].map(([, code]) => code);
  assert.equal(printed(models), ANSWER);
  const both = `${models.replace("{ Model }", "{ Context, Model }")}\n${frames}\nconsole.log("", text, finish, promptTokens > 0);`;
  assert.equal(printed(both), `${ANSWER} ${ANSWER} end_of_turn true\n`);
});

test("a context says what it is, and who made it", async () => {
  assert.deepEqual([context.numSteps, context.identity], [8, model.identity]);
  assert.deepEqual(context.shape, { numLayers: 4, numKvHeads: 2, headDim: 32, seqLen: context.seqLen, dtype: "float32" });
  assert.equal(context.tokens.length, context.seqLen);
  assert.deepEqual(context.tokens.slice(-8), Array(8).fill(null));
  const view = new avp.KvCacheView(avp.unpack(avp.decode(await context.toFrame())));
  assert.deepEqual(view.shape, context.shape);
  const config = readFileSync(join(folder, "config.json"), "utf8");
  assert.equal(avp.modelHash(config), model.identity.modelHash);
});

test("a thought says what it took", async () => {
  const thought = await model.think(NOTES, { steps: 2, diagnostics: true });
  assert.equal(thought.lastHiddenState.length, model.identity.hiddenDim);
  assert.deepEqual([thought.numSteps, thought.hiddenNorms.length, thought.reusedTokens], [2, 3, 0]);
  assert.ok(thought.promptTokens > 0 && thought.promptTime > 0 && thought.totalTime >= thought.promptTime);
  const again = await model.think(NOTES, { steps: 0, context: thought.context, reusePrefix: true });
  assert.equal(again.reusedTokens, thought.promptTokens - 1);
});

test("contexts are kept in files, with their tokens", async () => {
  const path = join(files, "context.avp");
  await context.save(path);
  const loaded = await Context.load(path);
  assert.deepEqual([loaded.tokens, loaded.numSteps], [context.tokens, 8]);
  assert.equal((await model.generate(QUESTION, { context: loaded })).text, ANSWER);
  await assert.rejects(Context.load(join(files, "none.avp")), { name: "RuntimeError", code: "file" });
});

test("memory that is handed over is detached, memory that is not stays the caller's", async () => {
  const frame = await context.toFrame({ alignment: 64 });
  const copied = await Context.fromFrame(frame);
  frame.fill(0);
  assert.equal((await model.generate(QUESTION, { context: copied })).text, ANSWER);
  const given = new Uint8Array(await context.toFrame({ alignment: 64 }));
  const taken = await Context.fromFrame(given, { transfer: true });
  assert.equal(given.byteLength, 0);
  assert.equal((await model.generate(QUESTION, { context: taken })).text, ANSWER);
  // Neither the addon's memory nor that of the pool can be handed over.
  const pooled = Buffer.from(avp.encode({}, new Uint8Array(9)));
  await assert.rejects(Context.fromFrame(pooled, { transfer: true }), { code: "not_a_kv_cache" });
  assert.equal(pooled[0], 0x41);
  const theirs = await Context.fromFrame(await context.toFrame(), { transfer: true });
  assert.equal((await model.generate(QUESTION, { context: theirs })).text, ANSWER);
});

test("the event loop goes on while a model runs", async () => {
  const runs = [
    () => model.think(NOTES, { steps: 400 }),
    () => model.generate(NOTES, { ...LONG, maxTokens: 200, temperature: 3, seed: 7 }),
  ];
  for (const run of runs) {
    let ticks = 0;
    const [timer, before] = [setInterval(() => (ticks += 1), 10), performance.eventLoopUtilization()];
    const { totalTime } = await run();
    const { utilization } = performance.eventLoopUtilization(before);
    clearInterval(timer);
    // Timers are late on a busy machine; a loop that stands still has none, and is never idle.
    assert.ok(ticks >= 3 && ticks >= totalTime / 100, `${ticks} ticks in ${totalTime} ms`);
    assert.ok(utilization < 0.5, `the loop was busy for ${utilization} of the time`);
  }
});

test("pieces are the text, in whole characters, for every reader", async () => {
  const answer = model.generate([{ role: "user", content: `${NOTES} Zoë 😀` }], { ...LONG, maxTokens: 60, temperature: 3, seed: 7 });
  const read = async () => {
    const pieces = [];
    for await (const piece of answer) pieces.push(piece);
    return pieces;
  };
  const [first, second] = await Promise.all([read(), read()]);
  const { text, tokens, finish } = await answer;
  assert.deepEqual(first, second);
  assert.equal(first.join(""), text);
  assert.ok(first.length > 1 && first.every((piece) => piece.length > 0 && piece.isWellFormed()));
  assert.deepEqual([tokens.length, finish], [60, "max_tokens"]);
  assert.deepEqual(await read(), first);
});

test("an abort ends the call with the signal's reason, before, while and however it runs", async () => {
  const isAbort = { name: "AbortError" };
  await assert.rejects(model.think(NOTES, { signal: AbortSignal.abort() }), isAbort);
  assert.throws(() => AbortSignal.abort().throwIfAborted(), isAbort);
  const early = new AbortController();
  const thinking = model.think(NOTES, { steps: 900, signal: early.signal });
  setTimeout(() => early.abort(), 30);
  await assert.rejects(thinking, isAbort);
  const own = new Error("my own reason");
  const late = new AbortController();
  const answer = model.generate(QUESTION, { ...LONG, signal: late.signal });
  const seen = [];
  await assert.rejects(async () => {
    for await (const piece of answer) {
      seen.push(piece);
      late.abort(own);
    }
  }, own);
  assert.equal(seen.length, 1);
  await assert.rejects(Promise.resolve(answer), own);
  await assert.rejects(model.think(NOTES, { steps: 900, signal: AbortSignal.timeout(20) }), { name: "TimeoutError" });
  assert.equal((await model.generate(QUESTION, { context })).text, ANSWER);
});

test("who leaves the loop stops the model, and has what was read", async () => {
  const answer = model.generate(QUESTION, LONG);
  for await (const piece of answer) if (piece) break;
  const { finish, tokens } = await answer;
  assert.equal(finish, "stopped");
  assert.ok(tokens.length < LONG.maxTokens, `${tokens.length}`);
});

test("more calls than take turns are answered all the same", async () => {
  const answers = await Promise.all(Array.from({ length: 20 }, () => model.generate(QUESTION, { context })));
  assert.deepEqual(new Set(answers.map(({ text }) => text)), new Set([ANSWER]));
});

test("what a run cannot do is a RuntimeError with a code, and the model goes on", async () => {
  const other = avp.encodeKvCache({ numLayers: 1, numKvHeads: 1, headDim: 2, seqLen: 1, dtype: "float32" }, [{ key: new Uint8Array(8), value: new Uint8Array(8) }]);
  const strange = await Context.fromFrame(avp.encode({ payloadType: "kv_cache" }, other));
  const cases = [
    [() => model.generate({ raw: "" }), "empty_prompt"],
    [() => model.think("word ".repeat(2000)), "prompt_too_long"],
    [() => model.think(NOTES, { steps: 1020 }), "context_too_long"],
    [() => model.think(NOTES, { context: strange }), "other_model"],
    [() => model.generate(QUESTION, { topP: 2 }), "option"],
    [() => model.generate(QUESTION, { stop: [""] }), "empty_stop"],
    [() => model.generate(QUESTION, { stopTokens: [4e9] }), "unknown_token"],
    [() => model.think(NOTES, { steps: 900, timeout: 1 }), "timed_out"],
    [() => Model.load(join(root, "js")), "missing_file"],
    [() => Model.load(folder, { dtype: "q4" }), "no_such_graph"],
    [() => Context.fromFrame(avp.encode({}, new Uint8Array(9))), "not_a_kv_cache"],
  ];
  for (const [act, code] of cases) {
    await assert.rejects(async () => act(), (error) => {
      assert.ok(error instanceof RuntimeError && error instanceof avp.AvpError, `${error.stack}`);
      assert.equal(error.code, code);
      return true;
    });
  }
  assert.throws(() => model.accepts(strange), { code: "other_model" });
  const broken = await context.toFrame();
  broken[broken.length - 1] ^= 1;
  await assert.rejects(Context.fromFrame(broken), { name: "DecodeError", code: "checksum_mismatch" });
  assert.equal((await model.generate(QUESTION, { context })).text, ANSWER);
});

test("arguments of a wrong type, and options that do not exist, are TypeErrors that name them", async () => {
  const cases = [
    [() => Model.load(null), /^folder/],
    [() => Model.load(folder, { thread: 1 }), /^options\.thread: unknown option/],
    [() => Model.load(folder, { threads: -1 }), /^options\.threads/],
    [() => Model.load(folder, { dtype: "q5" }), /^options\.dtype/],
    [() => new Model(), /Model\.load/],
    [() => new Context(), /Context/],
    [() => model.think(null), /^prompt/],
    [() => model.think([{ content: "x" }]), /^prompt\[0\]\.role/],
    [() => model.think([{ role: "user", content: 7 }]), /^prompt\[0\]\.content/],
    [() => model.think({ messages: [], tool: [] }), /^prompt\.tool: unknown option/],
    [() => model.think({}), /^prompt\.messages/],
    [() => model.think(NOTES, { steps: 1.5 }), /^options\.steps/],
    [() => model.think(NOTES, { steps: "many" }), /^options\.steps.*auto/],
    [() => model.think(NOTES, { form: "soft:top_k=x" }), /^options\.form.*top_k=x/],
    [() => model.think(NOTES, { step: 1 }), /^options\.step: unknown option/],
    [() => model.think(NOTES, { context: {} }), /^options\.context/],
    [() => model.think(NOTES, { context: new Proxy(context, {}) }), /^options\.context/],
    [() => model.think(NOTES, { signal: {} }), /^options\.signal/],
    [() => model.think(NOTES, { timeout: -1 }), /^options\.timeout/],
    [() => model.generate(NOTES, { stop: "x" }), /^options\.stop/],
    [() => model.generate(NOTES, { logitBias: { a: 1 } }), /logitBias/],
    [() => model.generate(NOTES, { seed: 2n }), /^options\.seed/],
    [() => model.accepts(7), /^context/],
    [() => context.toFrame({ align: 64 }), /^options\.align: unknown option/],
    [() => context.save(7), /^path/],
    [() => Context.fromFrame("x"), /^bytes|TypedArray/],
    [() => Context.fromFrame(new Uint8Array(new SharedArrayBuffer(8))), /^bytes/],
    [() => Context.fromFrame(new Uint8Array(8), { transfer: 1 }), /^options\.transfer/],
  ];
  for (const [act, message] of cases) {
    await assert.rejects(async () => act(), (error) => {
      assert.ok(error instanceof TypeError, `${act}: ${error.stack}`);
      assert.match(error.message, message, `${act}`);
      return true;
    });
  }
});

test("text that is no well-formed UTF-16 is read, as everywhere on the web", async () => {
  assert.ok((await model.think("Notes \ud800", { steps: 0 })).promptTokens > 0);
});

test("a process ends while a model is at work, when it wants to", () => {
  const program = `import { Model } from "avp-node";
const model = await Model.load(${JSON.stringify(folder)});
model.generate("Rosa", { ignoreEndOfTurn: true, maxTokens: 900 });
setTimeout(() => { console.log("left"); process.exit(0); }, 50);`;
  assert.equal(printed(program), "left\n");
});

/** The variables by which a library could be found. */
function withoutLibrary() {
  const { ORT_DYLIB_PATH, AVP_ONNXRUNTIME_CACHE, LD_LIBRARY_PATH, ...env } = process.env;
  return { ...env, PATH: files };
}

test("without ONNX Runtime frames work, and loading a model says what is missing", () => {
  const program = `import * as avp from "avp-node";
console.log(avp.decode(avp.encode({}, new Uint8Array(3))).payload.length);
for (const options of [{}, { library: "/no/such/library.so" }]) {
  await avp.Model.load("models/facts", options).then(() => console.log("loaded"), (error) => console.log(error.name, error.code, error.message));
}`;
  const [first, second, third] = printed(program, withoutLibrary()).split("\n");
  assert.equal(first, "3");
  // A library of the system's own is one.
  if (second !== "loaded") assert.match(second, /^RuntimeError library_not_found .*onnxruntime-node/);
  if (second !== "loaded") assert.match(third, /^RuntimeError library .*no\/such\/library/);
});

test("an installed onnxruntime-node brings the library", { skip: process.platform !== "linux" && "its files are named otherwise" }, (context) => {
  const library = process.env.ORT_DYLIB_PATH;
  if (!library) return context.skip("no library to install");
  const place = join(root, "node_modules/onnxruntime-node");
  const bin = join(place, "bin/napi-v6", process.platform, process.arch);
  mkdirSync(bin, { recursive: true });
  try {
    writeFileSync(join(place, "package.json"), JSON.stringify({ name: "onnxruntime-node", version: "1.0.0" }));
    symlinkSync(library, join(bin, "libonnxruntime.so.1"));
    const program = `import { Model } from "avp-node";
const model = await Model.load("models/facts");
console.log(model.window);`;
    assert.equal(printed(program, withoutLibrary()), "1024\n");
  } finally {
    rmSync(place, { recursive: true });
  }
});
