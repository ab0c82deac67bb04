// The orchestrator over HTTP, and each agent for a page that runs the orchestrator itself:
// `AVP=… node server.mjs READER-MODEL WRITER-MODEL`.

import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { Agent } from "./agents.mjs";
import { ask } from "./orchestrator.mjs";

const file = (place) => fileURLToPath(new URL(place, import.meta.url));
const FILES = {
  "/": [file("page/index.html"), "text/html; charset=utf-8"],
  "/page.js": [file("page/page.js"), "text/javascript"],
  "/avp-wasm.js": [fileURLToPath(import.meta.resolve("avp-wasm")), "text/javascript"],
};
const BASE = "http://localhost";
const LONGEST_TEXT = 1 << 20;

export function serve(reader, writer) {
  const agents = { reader, writer };
  return createServer(async (request, response) => {
    if (!URL.canParse(request.url, BASE)) return response.writeHead(400).end();
    const { pathname, searchParams } = new URL(request.url, BASE);
    const [, name, deed] = pathname.split("/");
    const agent = Object.hasOwn(agents, name) ? agents[name] : null;
    try {
      if (request.method === "GET" && FILES[pathname]) {
        const [path, type] = FILES[pathname];
        response.setHeader("content-type", type);
        await pipeline(createReadStream(path), response);
      } else if (request.method === "GET" && agent && deed === "hello") {
        response.setHeader("content-type", "application/json").end(await agent.hello());
      } else if (request.method === "POST" && pathname === "/ask") {
        const { text, question } = JSON.parse(await body(request));
        const answer = await ask(reader, writer, String(text), String(question), ({ frameLength, metadata }) =>
          console.log(`a frame of ${frameLength} bytes from ${metadata.sourceAgentId} passes`),
        );
        response.setHeader("content-type", "application/json").end(JSON.stringify(answer));
      } else if (request.method === "POST" && agent && deed === "think") {
        await passOn(agent.think(await body(request)), response, "application/octet-stream");
      } else if (request.method === "POST" && agent && deed === "generate") {
        const context = request.headers["content-type"] === "application/octet-stream";
        const child = agent.generate(searchParams.get("prompt") ?? "", { context });
        if (context) pipeline(request, child.stdin).catch(() => {});
        await passOn(child, response, "text/plain; charset=utf-8");
      } else {
        response.writeHead(404).end();
      }
    } catch (error) {
      if (response.headersSent) response.destroy();
      else response.writeHead(500, { "content-type": "text/plain; charset=utf-8" }).end(error.message);
    }
  });
}

/** Streams a process's output. The process can still fail after the response has started, which truncates it. */
async function passOn(child, response, type) {
  response.setHeader("content-type", type);
  await Promise.all([pipeline(child.stdout, response, { end: false }), child.done]);
  response.end();
}

async function body(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > LONGEST_TEXT) throw new Error("the text is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [reader, writer = reader] = process.argv.slice(2);
  const server = serve(new Agent("reader", reader), new Agent("writer", writer));
  server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));
}
