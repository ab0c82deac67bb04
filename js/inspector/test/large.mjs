// Large frames that take no room on the disk.

import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { decode, encode, encodeHeader, encodeKvCache } from "../../../target/npm/avp-wasm/dist/inline.js";

const place = mkdtempSync(join(tmpdir(), "inspector-"));
after(() => rmSync(place, { recursive: true }));

/** 200 MiB: 2 tensors of 16 layers of 16 heads. */
export const SHAPE = { numLayers: 16, numKvHeads: 16, headDim: 64, seqLen: 1600, dtype: "float32" };
const kvHeader = (shape) => {
  const header = encodeKvCache({ ...shape, numLayers: 0, seqLen: 0 }, []);
  new DataView(header.buffer).setUint32(0, shape.numLayers, true);
  new DataView(header.buffer).setUint32(12, shape.seqLen, true);
  return header;
};
export const tensorsLength = ({ numLayers, numKvHeads, headDim, seqLen }) => 2 * numLayers * numKvHeads * headDim * seqLen * 4;

/** A KV-cache of zeros as a file with holes, which takes no room on the disk. */
export function largeFile(name, shape, checksum) {
  const path = join(place, name);
  const [header, zeros] = [kvHeader(shape), new Uint8Array(1 << 22)];
  const pieces = Array.from({ length: tensorsLength(shape) / zeros.length }, () => zeros);
  const head = Buffer.concat([encodeHeader({ payloadType: "kv_cache" }, [header, ...pieces], { checksum }), header]);
  const file = openSync(path, "w");
  writeSync(file, head);
  ftruncateSync(file, head.length + tensorsLength(shape));
  closeSync(file);
  return path;
}

/** The same, compressed to a few KiB: a zstd frame (RFC 8878) of the header as it is and of blocks that repeat a byte. */
export function packedFile(name, shape) {
  const block = (last, type, size, byte) => [(size << 3) | (type << 1) | last, size >> 5, size >> 13, ...byte];
  const blocks = [block(0, 0, 17, kvHeader(shape))];
  for (let left = tensorsLength(shape); left > 0; left -= 1 << 17) blocks.push(block(left <= 1 << 17 ? 1 : 0, 1, Math.min(left, 1 << 17), [0]));
  const packed = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38, ...blocks.flat()]);
  const model = encode({ payloadType: "kv_cache" }, new Uint8Array(1000), { compress: true, checksum: false });
  const { payloadOffset } = decode(model);
  const frame = Buffer.concat([model.subarray(0, payloadOffset), packed]);
  frame.writeUInt32LE(frame.length - 12, 4);
  const path = join(place, name);
  writeFileSync(path, frame);
  return path;
}
