// A generation in progress: iterating gives pieces, awaiting gives the whole.

import type * as api from "../runtime.js";
import { errorOf } from "./errors.js";
import { type Event, type External, addon } from "./native.js";

type Begin = (stop: External<"stop">, listener: (event: Event) => void) => void;

/** Starts a generation with `begin`. */
export function answerOf(signal: AbortSignal | undefined, begin: Begin): api.Answer {
  const stop = addon.newStop();
  const pieces: string[] = [];
  let isOver = false;
  let waiting: (() => void)[] = [];
  const wake = () => {
    const woken = waiting;
    waiting = [];
    for (const again of woken) again();
  };
  const whole = new Promise<api.Generation>((done, failed) => {
    if (signal?.aborted) return failed(signal.reason);
    const abort = () => {
      failed(signal!.reason);
      addon.stop(stop);
      wake();
    };
    signal?.addEventListener("abort", abort, { once: true });
    begin(stop, ({ piece, generation, failure }) => {
      if (piece !== undefined) pieces.push(piece);
      if (failure) failed(errorOf(failure));
      if (generation !== undefined) done(JSON.parse(generation));
      if (piece === undefined) {
        signal?.removeEventListener("abort", abort);
        isOver = true;
      }
      wake();
    });
  });
  // The loop reports a failure too, so this rejection may stay without a handler.
  whole.catch(() => {});

  async function* read(): AsyncGenerator<string, void, undefined> {
    let at = 0;
    try {
      for (;;) {
        if (signal?.aborted) break;
        if (at < pieces.length) yield pieces[at++]!;
        else if (isOver) break;
        else await new Promise<void>((again) => waiting.push(again));
      }
    } finally {
      // The loop was left early.
      if (!isOver) addon.stop(stop);
    }
    await whole;
  }

  return {
    [Symbol.asyncIterator]: () => read(),
    then: (done, failed) => whole.then(done, failed),
  };
}
