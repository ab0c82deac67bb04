// Builds the page: `node inspector/build.mjs PACKAGE FOLDER`, with the folder of the package `avp-wasm`.

import { cpSync, mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [wasm, folder] = process.argv.slice(2).map((path) => resolve(path));

mkdirSync(folder, { recursive: true });
for (const file of ["index.html", "style.css", "icon.svg"]) cpSync(join(here, file), join(folder, file));
await esbuild.build({
  absWorkingDir: here,
  entryPoints: ["main.ts", "worker.ts"],
  outdir: folder,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  alias: { "avp-wasm": wasm },
});
