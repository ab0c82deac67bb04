// A Node stream of frames, in its own file so that browsers need no `node:stream`.

import { Transform, type TransformCallback } from "node:stream";
// The package itself, so that there is one module and one set of classes.
import { FrameDecoder } from "avp-wasm";
import type { FrameDecoderOptions } from "../api.js";

/** A `Transform` of bytes to frames: `socket.pipe(new FrameTransform())`. Its readable side is in object mode. */
export class FrameTransform extends Transform {
  readonly #decoder: FrameDecoder;

  constructor(options?: FrameDecoderOptions) {
    super({ readableObjectMode: true });
    this.#decoder = new FrameDecoder(options);
  }

  override _transform(chunk: Uint8Array, _encoding: string, done: TransformCallback): void {
    try {
      for (const frame of this.#decoder.feed(chunk)) this.push(frame);
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  override _flush(done: TransformCallback): void {
    try {
      this.#decoder.finish();
      done();
    } catch (error) {
      done(error as Error);
    }
  }
}
