// Copies `examples/js` and the packed package to a fresh project and runs its tests there: `node test/example.mjs TARBALL`. `AVP` is
// the program `avp`, `CHROMIUM` an optional browser.

import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../..");
const folder = mkdtempSync(join(tmpdir(), "avp-example-"));
try {
  cpSync(join(root, "examples/js"), folder, { recursive: true });
  // On Windows npm is a script, which takes a shell.
  const options = { cwd: folder, shell: process.platform === "win32", stdio: ["ignore", "ignore", "inherit"] };
  execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", "--install-links", resolve(process.argv[2])], options);
  const env = { ...process.env, EXAMPLE: folder, MODEL: join(root, "models/facts") };
  execFileSync(process.execPath, ["--test", "--test-reporter=spec", join(here, "example.test.mjs")], { env, stdio: "inherit" });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
