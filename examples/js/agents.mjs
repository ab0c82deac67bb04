// Agents in Rust: every call is a process of the program `avp` around a model folder; frames pass through its pipes.

import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";

const avp = process.env.AVP ?? "avp";

export class Agent {
  constructor(name, folder) {
    Object.assign(this, { name, folder });
  }

  /** The message by which an agent says who it is, as JSON text. */
  async hello() {
    const { stdout } = await promisify(execFile)(avp, ["identity", this.folder]);
    return JSON.stringify({ agent_id: this.name, avp_version: "0.6.2", identity: JSON.parse(stdout) });
  }

  /** Reads a text and takes latent steps: a process that writes all it then knows to `stdout`, as a frame. */
  think(text, { steps = 8 } = {}) {
    return run("think", this.folder, "--prompt", text, "--steps", `${steps}`, "--source-agent-id", this.name, "-o", "-");
  }

  /** Answers: a process that writes text to `stdout`. With `context` it waits for a frame on `stdin` first. */
  generate(prompt, { context = false } = {}) {
    return run("generate", this.folder, "--prompt", prompt, ...(context ? ["--context", "-"] : []));
  }
}

/** A process; `done` is settled when it has ended, with what it complained of where it failed. */
function run(...args) {
  const child = spawn(avp, args);
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (complaint += text));
  child.done = new Promise((done, failed) => {
    child.on("error", failed);
    child.on("close", (code) => (code === 0 ? done() : failed(new Error(complaint.trim() || `avp ended with ${code}`))));
  });
  // Who waits for it learns of it; nobody has to.
  child.done.catch(() => {});
  return child;
}
