export * from "./agents.js";
export { AvpError, DecodeError, EncodeError, JsonError, PacketError, SignatureError } from "./errors.js";
export {
  FrameDecoder,
  FrameDecoderStream,
  checksum,
  crc32,
  decode,
  decodeHeader,
  encode,
  encodeHeader,
  encodeInto,
  unpack,
} from "./frames.js";
export * from "./packets.js";
export { signFrame, verifyFrame } from "./signatures.js";
export { KvCacheView, decodeHybrid, encodeHybrid, encodeKvCache } from "./tensors.js";
