// Builds the npm package `avp-node` and the package of one platform: `node build-node.mjs ADDON TARGET FOLDER`, with the addon
// that cargo built for that target. `cargo xtask npm` runs it.

import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [addon, target, folder] = process.argv.slice(2);
const read = (file) => readFileSync(join(here, file), "utf8");
const platforms = JSON.parse(read("platforms.json"));
const platform = Object.keys(platforms).find((name) => platforms[name].target === target);
if (!platform) throw new Error(`unknown target ${target}; expected a target of platforms.json`);

const manifest = JSON.parse(read("../bindings-node/npm/package.json"));
const written = (json) => `${JSON.stringify(json, null, 2)}\n`;

/** An empty package with the licence. */
function packageAt(name) {
  const place = join(folder, name);
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  copyFileSync(join(here, "../LICENSE"), join(place, "LICENSE"));
  return place;
}

// The addon's package, which npm installs on its platform alone.
const { os, cpu, libc } = platforms[platform];
const own = packageAt(`avp-node-${platform}`);
const file = `avp-node.${platform}.node`;
copyFileSync(addon, join(own, file));
writeFileSync(join(own, "README.md"), `# avp-node-${platform}\n\nThe addon of avp-node for ${target}.\n`);
writeFileSync(join(own, "package.json"), written({
  name: `avp-node-${platform}`,
  version: manifest.version,
  description: `The addon of avp-node for ${target}`,
  license: manifest.license,
  main: file,
  files: [file],
  engines: manifest.engines,
  os: [os],
  cpu: [cpu],
  ...(libc && { libc: [libc] }),
}));

// The package that users name.
const main = packageAt("avp-node");
const dist = join(main, "dist");
cpSync(join(here, "../bindings-node/npm"), main, { recursive: true });
mkdirSync(dist);
const optionalDependencies = Object.fromEntries(Object.keys(platforms).map((name) => [`avp-node-${name}`, manifest.version]));
writeFileSync(join(main, "package.json"), written({ ...manifest, optionalDependencies }));

/** The seam is the addon's, and what names the other package means this one. */
const ours = {
  name: "ours",
  setup(build) {
    build.onResolve({ filter: /^\.\/seam\.js$/ }, () => ({ path: join(here, "src/seam-node.ts") }));
    build.onResolve({ filter: /^avp-wasm$/ }, () => ({ path: "./index.cjs", external: true }));
  },
};
const options = {
  absWorkingDir: here,
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  charset: "utf8",
  keepNames: true,
  legalComments: "none",
  plugins: [ours],
};
for (const [source, name] of [["addon", "index"], ["node", "node"]]) {
  await esbuild.build({ ...options, entryPoints: [`src/${source}.ts`], outfile: join(dist, `${name}.cjs`) });
  // One module for both systems, so that there is one set of classes.
  writeFileSync(join(dist, `${name}.js`), `export * from "./${name}.cjs";\n`);
}

// The contract is the declaration files, for each of the two module systems.
const api = read("api.ts").replaceAll('"avp-wasm"', '"avp-node"');
const runtime = read("runtime.ts");
const index = `export * from "./api.js";\nexport * from "./runtime.js";\n`;
const node = `import { Transform } from "node:stream";
import type { FrameDecoderOptions } from "./api.js";
/** A \`Transform\` of bytes to frames: \`socket.pipe(new FrameTransform())\`. Its readable side is in object mode. */
export declare class FrameTransform extends Transform {
  constructor(options?: FrameDecoderOptions);
}
`;
for (const [name, content] of Object.entries({ api, runtime, index, node })) {
  writeFileSync(join(dist, `${name}.d.ts`), content);
  writeFileSync(join(dist, `${name}.d.cts`), content.replaceAll(/"\.\/(\w+)\.js"/g, '"./$1.cjs"'));
}

console.log(`avp-node-${platform}`);
