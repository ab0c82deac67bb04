// Serves a folder on the loopback interface: `node inspector/serve.mjs FOLDER [--port N]`.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { pathToFileURL } from "node:url";

const BASE = "http://localhost";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Starts the server and returns its address; port 0 is any free port. */
export function serve(folder, port = 0) {
  const server = createServer((request, response) => {
    if (!URL.canParse(request.url, BASE)) return response.writeHead(400).end();
    const { pathname } = new URL(request.url, BASE);
    const file = join(folder, normalize(pathname === "/" ? "/index.html" : pathname));
    const type = TYPES[extname(file)];
    if (!type || !statSync(file, { throwIfNoEntry: false })?.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": type, "content-security-policy": POLICY, "x-content-type-options": "nosniff", "cache-control": "no-cache" });
    pipeline(createReadStream(file), response).catch(() => response.destroy());
  });
  return new Promise((done, failed) => {
    server.on("error", failed);
    server.listen(port, "127.0.0.1", () => done({ server, url: `http://127.0.0.1:${server.address().port}/` }));
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [folder, flag, port = "8128"] = process.argv.slice(2);
  if (flag !== undefined && flag !== "--port") throw new Error(`expected --port, got ${flag}`);
  console.log(`The inspector is at ${(await serve(resolve(folder), Number(port))).url} (Ctrl+C ends it)`);
}
