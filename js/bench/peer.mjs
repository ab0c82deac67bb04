// A fair peer: frames as one would write them by hand in JavaScript, on protobufjs and fzstd.
//
// Static code from protobufjs's own compiler is its fastest form; payloads are views here too, and the checksum takes
// eight bytes a step, the fastest that is common in plain JavaScript.

import { readFileSync } from "node:fs";
import { decompress } from "fzstd";
import protobuf from "protobufjs";

const schema = readFileSync(new URL("../../proto/avp.proto", import.meta.url), "utf8");
const Metadata = protobuf.parse(schema).root.lookupType("avp.v1.Metadata");

export function decode(bytes) {
  if (bytes[0] !== 0x41 || bytes[1] !== 0x56 || bytes[2] !== 1) throw new Error("no frame");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [payloadLength, metadataLength] = [view.getUint32(4, true), view.getUint32(8, true)];
  if (metadataLength > payloadLength || bytes.length !== 12 + payloadLength) throw new Error("wrong length");
  const metadata = Metadata.decode(bytes.subarray(12, 12 + metadataLength));
  return { flags: bytes[3], metadata, payload: bytes.subarray(12 + metadataLength) };
}

export function unpack(frame, limit = 2 ** 30) {
  const payload = frame.flags & 1 ? decompress(frame.payload) : frame.payload;
  if (payload.length > limit) throw new Error("too large");
  if (frame.metadata.payloadChecksum != null && frame.metadata.payloadChecksum !== crc32(payload)) throw new Error("checksum");
  return payload;
}

export function encode(fields, payload) {
  const metadata = Metadata.encode(Metadata.create({ ...fields, payloadChecksum: crc32(payload) })).finish();
  const frame = new Uint8Array(12 + metadata.length + payload.length);
  const view = new DataView(frame.buffer);
  frame.set([0x41, 0x56, 1, 0]);
  view.setUint32(4, metadata.length + payload.length, true);
  view.setUint32(8, metadata.length, true);
  frame.set(metadata, 12);
  frame.set(payload, 12 + metadata.length);
  return frame;
}

const tables = Array.from({ length: 8 }, () => new Uint32Array(256));
for (let byte = 0; byte < 256; byte += 1) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? 0xedb88320 ^ (crc >>> 1) : crc >>> 1;
  tables[0][byte] = crc;
}
for (let byte = 0; byte < 256; byte += 1) {
  for (let row = 1; row < 8; row += 1) {
    tables[row][byte] = tables[0][tables[row - 1][byte] & 0xff] ^ (tables[row - 1][byte] >>> 8);
  }
}
const [t0, t1, t2, t3, t4, t5, t6, t7] = tables;

export function crc32(bytes) {
  let crc = -1;
  let at = 0;
  for (; at + 8 <= bytes.length; at += 8) {
    crc ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    crc =
      t7[crc & 0xff] ^ t6[(crc >>> 8) & 0xff] ^ t5[(crc >>> 16) & 0xff] ^ t4[crc >>> 24] ^
      t3[bytes[at + 4]] ^ t2[bytes[at + 5]] ^ t1[bytes[at + 6]] ^ t0[bytes[at + 7]];
  }
  for (; at < bytes.length; at += 1) crc = t0[(crc ^ bytes[at]) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}
