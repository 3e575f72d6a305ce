// A WireGuard key pair, made here. Nothing in this file sends anything.

import type { Bytes } from "./base64";

const LENGTH = 32;

export interface KeyPair {
  readonly privateKey: Bytes;
  readonly publicKey: Bytes;
  /** What both sides of an exchange with this public key know, and nobody else. */
  sharedWith(publicKey: Bytes): Promise<Bytes>;
  /** Overwrites the private key. */
  wipe(): void;
}

export async function newKeyPair(): Promise<KeyPair> {
  try {
    return await byBrowser();
  } catch {
    // Browsers before 2025 have no X25519 of their own.
    return byLibrary(await import("./curve"));
  }
}

async function byBrowser(): Promise<KeyPair> {
  const pair = (await crypto.subtle.generateKey("X25519", true, ["deriveBits"])) as CryptoKeyPair;
  const [pkcs8, raw] = await Promise.all([
    crypto.subtle.exportKey("pkcs8", pair.privateKey),
    crypto.subtle.exportKey("raw", pair.publicKey),
  ]);
  // The key is what PKCS #8 ends with (RFC 8410).
  const packed = new Uint8Array(pkcs8);
  const privateKey = clamped(packed.slice(-LENGTH));
  packed.fill(0);
  return {
    privateKey,
    publicKey: new Uint8Array(raw),
    sharedWith: async (other) => {
      const there = await crypto.subtle.importKey("raw", other, "X25519", false, []);
      return new Uint8Array(await crypto.subtle.deriveBits({ name: "X25519", public: there }, pair.privateKey, 8 * LENGTH));
    },
    wipe: () => privateKey.fill(0),
  };
}

function byLibrary(curve: typeof import("./curve")): KeyPair {
  const privateKey = clamped(crypto.getRandomValues(new Uint8Array(LENGTH)));
  return {
    privateKey,
    publicKey: curve.getPublicKey(privateKey),
    sharedWith: async (other) => curve.getSharedSecret(privateKey, other),
    wipe: () => privateKey.fill(0),
  };
}

/** Returns the key as `wg genkey` writes it: the bits that X25519 sets anyway are set (RFC 7748, section 5). */
function clamped(key: Bytes): Bytes {
  key[0]! &= 248;
  key[31]! = (key[31]! & 127) | 64;
  return key;
}
