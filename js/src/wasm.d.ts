// The build puts the module into the file, in base64.
declare module "avp.wasm" {
  const base64: string;
  export default base64;
}
