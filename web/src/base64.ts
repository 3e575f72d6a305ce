// Base64 as WireGuard writes it: the standard alphabet, padded.

export type Bytes = Uint8Array<ArrayBuffer>;

export function encode(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

export function decode(text: string): Bytes {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

export function joined(...parts: Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
