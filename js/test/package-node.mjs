// Installs the packed addon into fresh projects, one for each kind of consumer, and uses it there:
// `node test/package-node.mjs TARBALL PLATFORM-TARBALL [frames]`. The whole API is tested in the first of them, by the tests of
// `avp-wasm`, and the runtime unless `frames` leaves it out.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import esbuild from "esbuild";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { build as vite } from "vite";
import webpack from "webpack";

const here = dirname(fileURLToPath(import.meta.url));
const js = dirname(here);
const [tarball, platform] = process.argv.slice(2, 4).map((file) => resolve(file));
const framesOnly = process.argv[4] === "frames";
const root = mkdtempSync(join(tmpdir(), "avp-node-"));

const CHECK = `const frame = avp.decode(avp.encode({ modelId: "m" }, new Uint8Array([1, 2, 3])));
if (frame.metadata.modelId !== "m" || avp.unpack(frame).length !== 3) throw new Error("not what was encoded");
if (!avp.validatePacket("FETCH|HR|return:A|aacp:1.2").valid) throw new Error("a valid packet");
if (typeof avp.Model.load !== "function") throw new Error("no runtime");
console.log("works");
`;
const ESM = `import * as avp from "avp-node";\n${CHECK}`;

function run(program, args, cwd, env = process.env) {
  try {
    // On Windows npm is a script, which takes a shell.
    const shell = process.platform === "win32" && program === "npm";
    return execFileSync(program, args, { cwd, env, shell, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    throw new Error(`${program} ${args.join(" ")} in ${cwd}:\n${error.stdout}${error.stderr}`);
  }
}

/** A new project with the packages installed by npm, without those of other platforms. */
function project(name, files, type = "module", packages = [tarball, platform]) {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name, private: true, type }));
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--install-links", ...packages], folder);
  for (const [file, content] of Object.entries(files)) writeFileSync(join(folder, file), content);
  return folder;
}

/** A program of `optionalDependencies`, which npm skips on unsupported machines. */
function installed(program) {
  const file = join(js, "node_modules/.bin", process.platform === "win32" ? `${program}.cmd` : program);
  return existsSync(file) && spawnSync(file, ["--version"]).status === 0 ? file : null;
}

const works = (folder, file) => assert.equal(run(process.execPath, [file], folder).trim(), "works");
const tsc = (folder, ...args) => run(process.execPath, [join(js, "node_modules/typescript/bin/tsc"), ...args], folder);

/** The tests of `avp-wasm`, with this package in its place. */
function bringTests(folder) {
  const place = join(folder, "js/test");
  mkdirSync(place, { recursive: true });
  const shared = readFileSync(join(here, "api.test.mjs"), "utf8");
  writeFileSync(join(place, "api.test.mjs"), shared.replaceAll("avp-wasm", "avp-node").replaceAll("bindings-wasm", "bindings-node"));
  cpSync(join(here, "runtime.test.mjs"), join(place, "runtime.test.mjs"));
  cpSync(join(js, "conformance"), join(folder, "js/conformance"), { recursive: true });
  for (const data of ["test-vectors", "models"]) symlinkSync(join(js, "..", data), join(folder, data), "junction");
  mkdirSync(join(folder, "bindings-node/npm"), { recursive: true });
  cpSync(join(js, "../bindings-node/npm/README.md"), join(folder, "bindings-node/npm/README.md"));
}

const consumers = {
  "the package's own form (publint)": async () => {
    const pkgDir = join(root, "node-esm/node_modules/avp-node");
    const { messages } = await publint({ pkgDir, strict: true });
    const manifest = JSON.parse(readFileSync(join(pkgDir, "package.json"), "utf8"));
    assert.deepEqual(messages.map((message) => formatMessage(message, manifest)), []);
  },
  "its types in every resolution (arethetypeswrong)": async () => {
    const { problems } = await checkPackage(createPackageFromTarballData(new Uint8Array(readFileSync(tarball))));
    // What resolves like Node 10 knows no `exports`, so it sees the main entry alone.
    assert.deepEqual(problems.filter(({ resolutionKind }) => resolutionKind !== "node10"), []);
  },
  "Node, ECMAScript modules and CommonJS, with one set of classes": () => {
    const both = `import * as avp from "avp-node";\nimport { createRequire } from "node:module";
if (createRequire(import.meta.url)("avp-node").AvpError !== avp.AvpError) throw new Error("two sets of classes");\n${CHECK}`;
    works(project("node-both", { "main.js": both }), "main.js");
    const stream = `const { FrameTransform } = require("avp-node/node");\nnew FrameTransform().end();\n`;
    works(project("node-cjs", { "main.js": `const avp = require("avp-node");\n${stream}${CHECK}` }, "commonjs"), "main.js");
  },
  "TypeScript, strict, nodenext and bundler": () => {
    const typed = `import { decode, Model, Context, RuntimeError, FrameDecoder, AvpError, type Frame, type Generation } from "avp-node";
import { FrameTransform } from "avp-node/node";
const frame: Frame = decode(new Uint8Array());
export async function answer(folder: string): Promise<Generation> {
  const model = await Model.load(folder, { threads: 1 });
  const { context } = await model.think([{ role: "user", content: "hi" }], { steps: 2, signal: AbortSignal.timeout(9) });
  const again: Context = await Context.fromFrame(await context.toFrame());
  for await (const piece of model.generate("hi", { context: again })) console.log(piece.length);
  // @ts-expect-error No such option.
  await model.think("hi", { step: 2 });
  return model.generate("hi");
}
// @ts-expect-error Models are loaded.
new Model();
const error: AvpError = new RuntimeError("m", "c");
export { frame, error, FrameDecoder, FrameTransform };
`;
    const folder = project("typescript", { "main.ts": typed, "main.cts": typed });
    mkdirSync(join(folder, "node_modules/@types"));
    symlinkSync(join(js, "node_modules/@types/node"), join(folder, "node_modules/@types/node"), "junction");
    cpSync(join(js, "node_modules/undici-types"), join(folder, "node_modules/undici-types"), { recursive: true });
    const strict = ["--strict", "--noEmit", "--target", "es2022", "--exactOptionalPropertyTypes"];
    tsc(folder, ...strict, "--module", "nodenext", "main.ts", "main.cts");
    tsc(folder, ...strict, "--module", "esnext", "--moduleResolution", "bundler", "main.ts");
  },
  // An addon is a file of its own, so bundlers for servers leave the package where npm has put it.
  "Vite, as it builds for servers": async () => {
    const folder = project("vite", { "main.js": ESM });
    await vite({ root: folder, logLevel: "error", build: { ssr: "main.js", outDir: "dist", emptyOutDir: true } });
    works(folder, "dist/main.js");
  },
  "webpack, with the package left outside": async () => {
    const folder = project("webpack", { "main.js": ESM });
    const output = { path: join(folder, "dist"), filename: "out.cjs" };
    const options = { target: "node", entry: "./main.js", output, externals: { "avp-node": "commonjs avp-node" } };
    const stats = await new Promise((done, failed) =>
      webpack({ context: folder, mode: "production", ...options }, (error, stats) => (error ? failed(error) : done(stats))),
    );
    assert.ok(!stats.hasErrors() && !stats.hasWarnings(), stats.toString());
    works(folder, "dist/out.cjs");
  },
  "esbuild, with packages left outside": async () => {
    const folder = project("esbuild", { "main.js": ESM });
    for (const [format, outfile] of [["esm", "out.mjs"], ["cjs", "out.cjs"]]) {
      const options = { entryPoints: ["main.js"], bundle: true, platform: "node", packages: "external" };
      await esbuild.build({ absWorkingDir: folder, ...options, format, outfile });
      works(folder, outfile);
    }
  },
  "Deno": () => {
    const deno = installed("deno");
    if (!deno) return "no Deno for this machine";
    const folder = project("deno", { "main.ts": ESM });
    const options = ["--no-remote", "--node-modules-dir=manual", "--allow-ffi", "--allow-read", "--allow-env", "--allow-sys", "main.ts"];
    assert.equal(run(deno, ["run", ...options], folder).trim(), "works");
  },
  "a project without the platform's package, which is told so": () => {
    const folder = project("no-addon", { "main.js": `import "avp-node";` }, "module", [tarball]);
    assert.throws(() => run(process.execPath, ["main.js"], folder), (error) => {
      for (const word of [process.platform, process.arch, "not found", "avp-wasm"]) assert.ok(error.message.includes(word), error.message);
      return true;
    });
  },
};

try {
  const folder = project("node-esm", {});
  bringTests(folder);
  // Prepared graphs are kept here, and not in the user's cache.
  const env = { ...process.env, AVP_CACHE_DIR: join(root, "cache") };
  const tests = ["js/test/api.test.mjs", ...(framesOnly ? [] : ["js/test/runtime.test.mjs"])];
  execFileSync(process.execPath, ["--test", "--test-reporter=spec", ...tests], { cwd: folder, env, stdio: "inherit" });
  for (const [name, consume] of Object.entries(consumers)) {
    const leftOut = await consume();
    console.log(leftOut ? `left out: ${name} (${leftOut})` : `works in ${name}`);
  }
} finally {
  rmSync(root, { recursive: true, force: true });
}
