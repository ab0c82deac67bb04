// Installs the packed package into fresh projects, one for each kind of consumer, and uses it there:
// `node test/package.mjs TARBALL`. The first one tests the whole API.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
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
const tarball = resolve(process.argv[2]);
const root = mkdtempSync(join(tmpdir(), "avp-wasm-"));

const CHECK = `const frame = avp.decode(avp.encode({ modelId: "m" }, new Uint8Array([1, 2, 3])));
if (frame.metadata.modelId !== "m" || avp.unpack(frame).length !== 3) throw new Error("not what was encoded");
if (!avp.validatePacket("FETCH|HR|return:A|aacp:1.2").valid) throw new Error("a valid packet");
console.log("works");
`;
const ESM = `import * as avp from "avp-wasm";\n${CHECK}`;

function run(program, args, cwd) {
  try {
    return execFileSync(program, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    throw new Error(`${program} ${args.join(" ")} in ${cwd}:\n${error.stdout}${error.stderr}`);
  }
}

/** A new project with the package installed by npm. */
function project(name, files, type = "module") {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name, private: true, type }));
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--install-links", tarball], folder);
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

const consumers = {
  "the package's own form (publint)": async () => {
    const { messages } = await publint({ pkgDir: join(root, "node-esm/node_modules/avp-wasm"), strict: true });
    const manifest = JSON.parse(readFileSync(join(root, "node-esm/node_modules/avp-wasm/package.json"), "utf8"));
    assert.deepEqual(messages.map((message) => formatMessage(message, manifest)), []);
  },
  "its types in every resolution (arethetypeswrong)": async () => {
    const { problems } = await checkPackage(createPackageFromTarballData(new Uint8Array(readFileSync(tarball))));
    // The module itself has no types, and is not for TypeScript to import.
    const wrong = problems.filter(({ entrypoint }) => entrypoint !== "./avp.wasm");
    // What resolves like Node 10 knows no `exports`, so it sees the main entry alone.
    assert.deepEqual(wrong.filter(({ resolutionKind }) => resolutionKind !== "node10"), []);
  },
  "Node, CommonJS": () => {
    const node = `const { FrameTransform } = require("avp-wasm/node");\nnew FrameTransform().end();\n`;
    works(project("node-cjs", { "main.js": `const avp = require("avp-wasm");\n${node}${CHECK}` }, "commonjs"), "main.js");
  },
  "Node, the slim entry": () => {
    const init = `import { readFileSync } from "node:fs";\nimport { createRequire } from "node:module";\n`;
    const unready = `try { avp.crc32(new Uint8Array(1)); throw 1; } catch (error) { if (error.code !== "not_initialised") throw error; }\n`;
    const load = `avp.initSync(readFileSync(createRequire(import.meta.url).resolve("avp-wasm/avp.wasm")));\n`;
    works(project("slim", { "main.js": `${init}${ESM.split("\n")[0].replace("avp-wasm", "avp-wasm/slim")}\n${unready}${load}${CHECK}` }), "main.js");
  },
  "Node, the slim entry, with the module from a server": () => {
    const main = `import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import * as avp from "avp-wasm/slim";
const module = readFileSync(createRequire(import.meta.url).resolve("avp-wasm/avp.wasm"));
const server = createServer(({ url }, answer) => (url === "/avp.wasm" ? answer.end(module) : answer.writeHead(404).end()));
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const address = (path) => new URL(path, \`http://127.0.0.1:\${server.address().port}\`);
const failure = await avp.init(address("/nowhere")).catch((error) => error);
if (!(failure instanceof TypeError && failure.message.includes("404"))) throw failure;
await Promise.all([avp.init(address("/avp.wasm")), avp.init(fetch(address("/avp.wasm"))), avp.init(module)]);
server.close();
server.closeAllConnections();
${CHECK}`;
    works(project("slim-init", { "main.js": main }), "main.js");
  },
  "TypeScript, strict, nodenext and bundler": () => {
    const typed = `import { decode, FrameDecoder, AvpError, type Frame, type PayloadType } from "avp-wasm";
import { FrameTransform } from "avp-wasm/node";
import { initSync } from "avp-wasm/slim";
const frame: Frame = decode(new Uint8Array());
const kind: PayloadType = frame.metadata.payloadType;
// @ts-expect-error A number is no payload type.
const wrong: number = kind;
const error: AvpError = new AvpError("m", "c");
export { wrong, error, FrameDecoder, FrameTransform, initSync };
`;
    const folder = project("typescript", { "main.ts": typed, "main.cts": typed });
    mkdirSync(join(folder, "node_modules/@types"));
    for (const types of ["node"]) symlinkSync(join(js, "node_modules/@types", types), join(folder, "node_modules/@types", types));
    cpSync(join(js, "node_modules/undici-types"), join(folder, "node_modules/undici-types"), { recursive: true });
    const strict = ["--strict", "--noEmit", "--target", "es2022", "--exactOptionalPropertyTypes"];
    tsc(folder, ...strict, "--module", "nodenext", "main.ts", "main.cts");
    tsc(folder, ...strict, "--module", "esnext", "--moduleResolution", "bundler", "main.ts");
  },
  "Vite": async () => {
    const folder = project("vite", { "main.js": ESM });
    const lib = { entry: "main.js", formats: ["es"], fileName: "out" };
    await vite({ root: folder, logLevel: "error", build: { lib, outDir: "dist", emptyOutDir: true } });
    works(folder, "dist/out.js");
  },
  "webpack": async () => {
    const folder = project("webpack", { "main.js": ESM });
    const output = { path: join(folder, "dist"), filename: "out.cjs" };
    const stats = await new Promise((done, failed) =>
      webpack({ context: folder, mode: "production", target: "web", entry: "./main.js", output, performance: false }, (error, stats) =>
        error ? failed(error) : done(stats),
      ),
    );
    assert.ok(!stats.hasErrors() && !stats.hasWarnings(), stats.toString());
    works(folder, "dist/out.cjs");
  },
  "esbuild, for browsers and for Node": async () => {
    const folder = project("esbuild", { "main.js": ESM });
    for (const [platform, format] of [["browser", "esm"], ["browser", "iife"], ["node", "cjs"]]) {
      const outfile = join(folder, `${platform}-${format}.${format === "esm" ? "mjs" : "cjs"}`);
      await esbuild.build({ absWorkingDir: folder, entryPoints: ["main.js"], bundle: true, minify: true, platform, format, outfile });
      works(folder, outfile);
    }
  },
  "Deno, with its own check of types": () => {
    const deno = installed("deno");
    if (!deno) return "no Deno for this machine";
    const folder = project("deno", { "main.ts": ESM });
    const options = ["--no-remote", "--node-modules-dir=manual", "main.ts"];
    run(deno, ["check", ...options], folder);
    assert.equal(run(deno, ["run", ...options], folder).trim(), "works");
  },
  "workerd, as its bundler resolves it": async () => {
    const main = `import * as avp from "avp-wasm";\nexport default { test() {\n${CHECK}} };\n`;
    const folder = project("workerd", { "main.js": main });
    const options = { absWorkingDir: folder, entryPoints: ["main.js"], bundle: true, format: "esm", outdir: "dist", metafile: true };
    const { metafile } = await esbuild.build({ ...options, conditions: ["workerd", "worker", "browser"], loader: { ".wasm": "copy" } });
    const inputs = Object.keys(metafile.inputs);
    assert.ok(inputs.some((input) => input.endsWith("dist/workerd.js")) && inputs.some((input) => input.endsWith("dist/avp.wasm")), inputs.join());
    const workerd = installed("workerd");
    if (!workerd) return "no workerd for this machine: bundled, not run";
    const wasm = readdirSync(join(folder, "dist")).find((file) => file.endsWith(".wasm"));
    writeFileSync(join(folder, "test.capnp"), `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (services = [(name = "main", worker = (compatibilityDate = "2025-01-01", modules = [
  (name = "main.js", esModule = embed "dist/main.js"), (name = "${wasm}", wasm = embed "dist/${wasm}")]))]);
`);
    run(workerd, ["test", "test.capnp"], folder);
  },
};

try {
  const folder = project("node-esm", {});
  // The tests lie beside the vectors; the package they test is the installed one.
  const place = join(folder, "js/test");
  mkdirSync(place, { recursive: true });
  for (const file of ["api.test.mjs", "memory.test.mjs"]) cpSync(join(here, file), join(place, file));
  cpSync(join(js, "conformance"), join(folder, "js/conformance"), { recursive: true });
  symlinkSync(join(js, "../test-vectors"), join(folder, "test-vectors"));
  mkdirSync(join(folder, "bindings-wasm/npm"), { recursive: true });
  cpSync(join(js, "../bindings-wasm/npm/README.md"), join(folder, "bindings-wasm/npm/README.md"));
  execFileSync(process.execPath, ["--test", "--test-reporter=spec", "js/test/api.test.mjs", "js/test/memory.test.mjs"], { cwd: folder, stdio: "inherit" });
  for (const [name, consume] of Object.entries(consumers)) {
    const leftOut = await consume();
    console.log(leftOut ? `left out: ${name} (${leftOut})` : `works in ${name}`);
  }
} finally {
  rmSync(root, { recursive: true, force: true });
}
