// The orchestrator in the browser: it negotiates, inspects the KV-cache that it passes on, and shows the answer.

import { KvCacheView, decode, parseHello, resolve, unpack } from "avp-wasm";

const [form, handover, answer] = ["form", "#handover", "#answer"].map((place) => document.querySelector(place));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  answer.textContent = "";
  try {
    await ask(form.elements.text.value, form.elements.question.value);
  } catch (error) {
    handover.textContent = `That failed: ${error.message}`;
  }
});

async function ask(text, question) {
  handover.textContent = "The first agent reads.";
  const [local, remote] = await Promise.all(["reader", "writer"].map(identity));
  const { rule } = resolve(local, remote);
  if (rule !== "hash_match" && rule !== "structural_match") {
    const summary = await (await post(generate("reader", `${text}\nSummarise the notes.`))).text();
    handover.textContent = `Words are handed over, by ${rule}: ${summary}`;
    return show(await post(generate("writer", `${summary}\n${question}`)));
  }
  const bytes = new Uint8Array(await (await post("/reader/think", `${text}\nSummarise the notes.`)).arrayBuffer());
  const frame = decode(bytes);
  const { shape } = new KvCacheView(unpack(frame));
  handover.textContent = `A frame of ${bytes.length} bytes is handed over, by ${rule}: ${shape.seqLen} tokens, ${shape.numLayers} layers.`;
  await show(await post(generate("writer", question), bytes));
}

async function identity(agent) {
  return parseHello(await (await checked(await fetch(`/${agent}/hello`))).text()).identity;
}

const generate = (agent, prompt) => `/${agent}/generate?${new URLSearchParams({ prompt })}`;

async function post(address, body) {
  const headers = body instanceof Uint8Array ? { "content-type": "application/octet-stream" } : {};
  return checked(await fetch(address, { method: "POST", body, headers }));
}

async function checked(response) {
  if (!response.ok) throw new Error(await response.text());
  return response;
}

async function show(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) answer.append(value);
}
