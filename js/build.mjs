// Builds the npm package `avp-wasm`: `node build.mjs MODULE.wasm FOLDER`. `cargo xtask npm` runs it.

import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [module, folder] = process.argv.slice(2);
const dist = join(folder, "dist");
const require = createRequire(import.meta.url);

rmSync(folder, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
cpSync(join(here, "../bindings-wasm/npm"), folder, { recursive: true });
copyFileSync(join(here, "../LICENSE"), join(folder, "LICENSE"));

// What rustc turns on for this target, and SIMD.
const features = ["simd", "bulk-memory", "sign-ext", "mutable-globals", "nontrapping-float-to-int", "multivalue", "reference-types"];
// The second round finds what `--gufa` uncovers. Rust's stack grows down to address 0, so the lowest kibibyte is in use only
// where it is about to overflow. Functions with one caller stay apart when they are long: that adds 2 % of bytes, and
// gzip, which looks back no further than 32 KiB, makes them 3 % fewer.
const passes = ["-Oz", "--gufa", "-Oz", "--low-memory-unused", "-Oz", "--one-caller-inline-max-function-size=30"];
const wasm = join(dist, "avp.wasm");
const wasmOpt = join(dirname(require.resolve("binaryen/package.json")), "bin/wasm-opt");
execFileSync(
  process.execPath,
  [wasmOpt, ...features.map((feature) => `--enable-${feature}`), ...passes, "--strip-debug", "--strip-producers", module, "-o", wasm],
  { stdio: "inherit" },
);
const bytes = readFileSync(wasm);
const unexpected = WebAssembly.Module.imports(new WebAssembly.Module(bytes)).filter((one) => one.module !== "./avp_bg.js");
if (unexpected.length > 0) throw new Error(`unexpected imports of the module: ${JSON.stringify(unexpected)}`);

/** `import base64 from "avp.wasm"` becomes the module itself. */
const inline = {
  name: "inline",
  setup(build) {
    build.onResolve({ filter: /^avp\.wasm$/ }, () => ({ path: wasm, namespace: "base64" }));
    build.onLoad({ filter: /.*/, namespace: "base64" }, () => ({ contents: bytes.toString("base64"), loader: "text" }));
  },
};
const options = {
  absWorkingDir: here,
  bundle: true,
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  external: ["./avp.wasm", "avp-wasm", "node:stream"],
  plugins: [inline],
};
for (const entry of ["inline", "workerd", "slim", "node"]) {
  const entryPoints = [`src/${entry}.ts`];
  await esbuild.build({ ...options, entryPoints, format: "esm", outfile: join(dist, `${entry}.js`) });
  if (entry !== "workerd") {
    await esbuild.build({ ...options, entryPoints, format: "cjs", outfile: join(dist, `${entry}.cjs`) });
  }
}

// The contract is the declaration file, for each of the two module systems.
const api = readFileSync(join(here, "api.ts"), "utf8");
const slim = `export * from "./index.EXT";
export type ModuleSource = WebAssembly.Module | BufferSource;
/** Initialises the package with the file \`avp-wasm/avp.wasm\`, as bytes or as a compiled module. */
export declare function initSync(source: ModuleSource): void;
/** Initialises the package with the URL of that file, a response, its bytes, or the compiled module. */
export declare function init(source: string | URL | Response | ModuleSource | Promise<Response>): Promise<void>;
`;
const node = `import { Transform } from "node:stream";
import type { FrameDecoderOptions } from "./index.EXT";
/** A \`Transform\` of bytes to frames: \`socket.pipe(new FrameTransform())\`. Its readable side is in object mode. */
export declare class FrameTransform extends Transform {
  constructor(options?: FrameDecoderOptions);
}
`;
for (const [ending, extension] of [["d.ts", "js"], ["d.cts", "cjs"]]) {
  writeFileSync(join(dist, `index.${ending}`), api);
  writeFileSync(join(dist, `slim.${ending}`), slim.replaceAll("EXT", extension));
  writeFileSync(join(dist, `node.${ending}`), node.replaceAll("EXT", extension));
}

console.log(`${bytes.length} bytes, ${gzipSync(bytes, { level: 9 }).length} after gzip -9`);
