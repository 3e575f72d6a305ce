// X25519 for browsers that have none; loaded only there.

import { x25519 } from "@noble/curves/ed25519.js";

export const { getPublicKey, getSharedSecret } = x25519;
