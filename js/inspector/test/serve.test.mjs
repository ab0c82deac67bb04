// The server of the page: files of one folder, and an answer to whatever else is asked.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { serve } from "../serve.mjs";

const place = mkdtempSync(join(tmpdir(), "inspector-serve-"));
let server;
before(async () => {
  mkdirSync(join(place, "page"));
  writeFileSync(join(place, "page", "index.html"), "<p>here</p>");
  writeFileSync(join(place, "outside.html"), "");
  ({ server } = await serve(join(place, "page")));
});
after(() => {
  server.close();
  rmSync(place, { recursive: true });
});

/** As `fetch`, which would mend the path first. */
const ask = (path) =>
  new Promise((answered, failed) => {
    get({ port: server.address().port, path, agent: false }, (response) => {
      response.resume();
      response.on("end", () => answered(response.statusCode));
    }).on("error", failed);
  });

test("a path that is no path is refused, and the server goes on", async () => {
  for (const path of ["//", "//:x/", "http://["]) assert.equal(await ask(path), 400, path);
  assert.equal(await ask("/"), 200);
});

test("only files of the folder are served", async () => {
  for (const path of ["/../outside.html", "/..%2foutside.html", "/none.html", "/", "/index.html"]) {
    assert.equal(await ask(path), ["/", "/index.html"].includes(path) ? 200 : 404, path);
  }
});
