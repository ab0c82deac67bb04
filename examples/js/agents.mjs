// Agents in Rust: every call runs the program `avp` with a model folder and passes frames through pipes.

import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";

const avp = process.env.AVP ?? "avp";

export class Agent {
  constructor(name, folder) {
    Object.assign(this, { name, folder });
  }

  /** The agent's hello as JSON text. */
  async hello() {
    const { stdout } = await promisify(execFile)(avp, ["identity", this.folder]);
    return JSON.stringify({ agent_id: this.name, avp_version: "0.6.2", identity: JSON.parse(stdout) });
  }

  /** Reads a text and takes latent steps: a process that writes its context to `stdout` as a frame. */
  think(text, { steps = 0 } = {}) {
    return run("think", this.folder, "--prompt", text, "--steps", `${steps}`, "--source-agent-id", this.name, "-o", "-");
  }

  /** Generates: a process that writes text to `stdout`. With `context` it reads a frame from `stdin` first. */
  generate(prompt, { context = false } = {}) {
    return run("generate", this.folder, "--prompt", prompt, ...(context ? ["--context", "-"] : []));
  }
}

/** A process. `done` settles when it exits, and rejects with its standard error if it failed. */
function run(...args) {
  const child = spawn(avp, args);
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (errors += text));
  child.done = new Promise((done, failed) => {
    child.on("error", failed);
    child.on("close", (code) => (code === 0 ? done() : failed(new Error(errors.trim() || `avp exited with ${code}`))));
  });
  // `done` may be left without a handler.
  child.done.catch(() => {});
  return child;
}
