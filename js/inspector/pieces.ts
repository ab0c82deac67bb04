// Reading a file piece by piece.

/** Lets other messages in, tells how far it is, and stops where the page asked to. */
export type Step = (part: number) => Promise<void>;

export async function read(blob: Blob, start: number, end: number): Promise<Uint8Array> {
  return new Uint8Array(await blob.slice(start, end).arrayBuffer());
}
