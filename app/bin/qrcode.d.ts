// What is used here of qrcode: the types of others for it want a browser's.
declare module "qrcode" {
  interface TextOptions {
    readonly type: "terminal" | "utf8";
    /** Half the height: two rows of modules on one line. */
    readonly small?: boolean;
    readonly errorCorrectionLevel?: "L" | "M" | "Q" | "H";
  }
  const qrcode: {
    /** @throws Error for a text that is too long */
    toString(text: string, options: TextOptions): Promise<string>;
  };
  export default qrcode;
}
