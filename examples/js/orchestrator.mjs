// One agent reads and another answers: from the first one's KV-cache if their models match, otherwise from text.

import { pipeline } from "node:stream/promises";
import { text as wholeText } from "node:stream/consumers";
import { DecodeError, decodeHeader, parseHello, resolve } from "avp-wasm";

/** Rules by which one model can continue from another's KV-cache. Other rules need a projection map, which this example lacks. */
const SHARES_CACHES = new Set(["hash_match", "structural_match"]);

/** Asks `writer` a question about a text that only `reader` reads. `onHead` receives the head of the frame, if there is one. */
export async function ask(reader, writer, text, question, onHead = () => {}) {
  const [local, remote] = (await Promise.all([reader.hello(), writer.hello()])).map((hello) => parseHello(hello).identity);
  const { rule } = resolve(local, remote);
  if (SHARES_CACHES.has(rule)) {
    return { mode: "latent", rule, answer: await overCache(reader, writer, text, question, onHead) };
  }
  const summary = await finished(reader.generate(`${text}\nSummarise the notes.`));
  return { mode: "json", rule, answer: await finished(writer.generate(`${summary}\n${question}`)) };
}

async function overCache(reader, writer, text, question, onHead) {
  const [thinking, answering] = [reader.think(`${text}\nSummarise the notes.`), writer.generate(question, { context: true })];
  // Why one of them failed is better known to itself than to the pipe between them.
  const passing = pipeline(thinking.stdout, watched(onHead), answering.stdin).catch(() => {});
  const [answer] = await Promise.all([finished(answering), thinking.done, passing]);
  return answer;
}

async function finished(child) {
  const [text] = await Promise.all([wholeText(child.stdout), child.done]);
  return text.trim();
}

/** Passes chunks on without copying, and reports the head of their frame. */
export const watched = (onHead) =>
  async function* (chunks) {
    let start = new Uint8Array();
    for await (const chunk of chunks) {
      if (start) {
        start = start.length === 0 ? chunk : Buffer.concat([start, chunk]);
        const head = headOf(start);
        if (head) {
          onHead(head);
          start = null;
        }
      }
      yield chunk;
    }
  };

/** The head, once it is complete. */
function headOf(bytes) {
  try {
    return decodeHeader(bytes);
  } catch (error) {
    if (error instanceof DecodeError && error.code === "truncated") return null;
    throw error;
  }
}
