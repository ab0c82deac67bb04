// The build replaces this import with the module in base64.
declare module "avp.wasm" {
  const base64: string;
  export default base64;
}
