// Passkeys as a second factor: set up, and asked for at the login (WebAuthn Level 3).

import { explained, Problem, post } from "./asking";
import { decode, encode } from "./base64";
import { say } from "./elements";

export function attachPasskeys(): void {
  if (!("PublicKeyCredential" in window) || !isSecureContext) return;
  attach("passkey-register", create);
  attach("passkey-login", get);
}

type Ask = (options: never) => Promise<Credential | null>;

function attach(kind: string, ask: Ask): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>(`button[data-exuvia="${kind}"]`)) {
    button.hidden = false;
    button.addEventListener("click", () => void act(button, ask));
  }
}

async function act(button: HTMLButtonElement, ask: Ask): Promise<void> {
  const alert = document.querySelector<HTMLElement>('[data-exuvia="passkey-error"]');
  const { optionsUrl = "", verifyUrl = "", csrf = "" } = button.dataset;
  button.disabled = true;
  say(alert, "");
  try {
    const options = await post<never>(optionsUrl, { csrf });
    const credential = await asked(ask, options);
    const answer = await post<{ location: string }>(verifyUrl, { csrf, credential: JSON.stringify(toJson(credential)) });
    location.assign(answer.location);
  } catch (error) {
    say(alert, explained(error));
    button.disabled = false;
  }
}

async function asked(ask: Ask, options: never): Promise<PublicKeyCredential> {
  try {
    const credential = await ask(options);
    if (credential) return credential as PublicKeyCredential;
  } catch (error) {
    if (error instanceof DOMException && error.name === "InvalidStateError") {
      throw new Problem("This passkey is set up already. Use another one, or go on without.");
    }
    if (!(error instanceof DOMException)) throw error;
  }
  throw new Problem("No passkey was given: it was cancelled, took too long, or this device has none for this website. Try again.");
}

function create(options: PublicKeyCredentialCreationOptionsJSON): Promise<Credential | null> {
  return navigator.credentials.create({ publicKey: creation(options) });
}

function get(options: PublicKeyCredentialRequestOptionsJSON): Promise<Credential | null> {
  return navigator.credentials.get({ publicKey: request(options) });
}

// Browsers of before 2025 have no way from JSON and back: what the server sends and reads is done by hand for them.

function creation(options: PublicKeyCredentialCreationOptionsJSON): PublicKeyCredentialCreationOptions {
  if (PublicKeyCredential.parseCreationOptionsFromJSON) return PublicKeyCredential.parseCreationOptionsFromJSON(options);
  return {
    ...(options as object as PublicKeyCredentialCreationOptions),
    challenge: bytes(options.challenge),
    user: { ...options.user, id: bytes(options.user.id) },
    excludeCredentials: (options.excludeCredentials ?? []).map(described),
  };
}

function request(options: PublicKeyCredentialRequestOptionsJSON): PublicKeyCredentialRequestOptions {
  if (PublicKeyCredential.parseRequestOptionsFromJSON) return PublicKeyCredential.parseRequestOptionsFromJSON(options);
  return {
    ...(options as object as PublicKeyCredentialRequestOptions),
    challenge: bytes(options.challenge),
    allowCredentials: (options.allowCredentials ?? []).map(described),
  };
}

function described(known: PublicKeyCredentialDescriptorJSON): PublicKeyCredentialDescriptor {
  return { ...(known as object as PublicKeyCredentialDescriptor), id: bytes(known.id) };
}

function toJson(credential: PublicKeyCredential): object {
  if (typeof credential.toJSON === "function") return credential.toJSON();
  const given = credential.response as AuthenticatorAttestationResponse & AuthenticatorAssertionResponse;
  const response: Record<string, string> = {};
  for (const part of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"] as const) {
    const value = given[part];
    if (value) response[part] = text(value);
  }
  return {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    response,
    clientExtensionResults: credential.getClientExtensionResults(),
  };
}

function bytes(base64url: string): Uint8Array<ArrayBuffer> {
  return decode(base64url.replace(/-/g, "+").replace(/_/g, "/"));
}

function text(buffer: ArrayBuffer): string {
  return encode(new Uint8Array(buffer)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
}
