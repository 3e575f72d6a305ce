// The proof that whoever registers a public key holds its private half.

import { type Bytes, encode, joined } from "./base64";
import type { KeyPair } from "./keys";

const PURPOSE = new TextEncoder().encode("exuvia possession 1\0");

export async function proof(pair: KeyPair, serverKey: Bytes): Promise<string> {
  const shared = await pair.sharedWith(serverKey);
  const key = await crypto.subtle.importKey("raw", shared, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  shared.fill(0);
  const mac = await crypto.subtle.sign("HMAC", key, joined(PURPOSE, serverKey, pair.publicKey));
  return encode(joined(serverKey, new Uint8Array(mac)));
}
