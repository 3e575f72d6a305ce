// The form that adds a device or replaces a device's key: the pair is made here, its public half is sent.

import { explained, Problem, post } from "./asking";
import { decode, encode } from "./base64";
import type { Gateway } from "./configuration";
import { say } from "./elements";
import { type KeyPair, newKeyPair } from "./keys";
import { proof } from "./possession";
import { Result } from "./result";

interface Registered {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly preshared_key: string;
}

export function attachNewKey(form: HTMLFormElement): void {
  const place = document.querySelector<HTMLElement>('[data-exuvia="result"]');
  const gateways = form.querySelector("select");
  if (!place) return;
  const alert = form.querySelector<HTMLElement>('[data-exuvia="error"]');
  const button = form.querySelector<HTMLButtonElement>('button:not([type="button"])');
  let pair: KeyPair | null = null;
  let result: Result | null = null;
  let isBusy = false;

  async function register(): Promise<void> {
    const gateway = chosen(gateways);
    // After a failure the same pair is tried again: should the first try have arrived, nothing is done twice.
    pair ??= await newKeyPair();
    const answer = await post<Registered>(form.action, {
      ...fields(form),
      public_key: encode(pair.publicKey),
      proof: await proof(pair, decode(form.dataset["serverKey"] ?? "")),
    });
    result = new Result(place!, {
      name: answer.name,
      privateKey: encode(pair.privateKey),
      presharedKey: answer.preshared_key,
      addresses: answer.addresses,
    });
    pair.wipe();
    form.classList.add("done");
    button?.remove();
    result.show(gateway);
    place!.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (isBusy || result) return;
    isBusy = true;
    form.setAttribute("aria-busy", "true");
    say(alert, "");
    register()
      .catch((error: unknown) => say(alert, explained(error)))
      .finally(() => {
        isBusy = false;
        form.removeAttribute("aria-busy");
      });
  });
  gateways?.addEventListener("change", () => result?.show(chosen(gateways)));
  addEventListener("pagehide", () => {
    pair?.wipe();
    result?.wipe();
    pair = result = null;
  });
  // Back in a page that the browser had kept: its key is gone, and it may be out of date.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

function chosen(gateways: HTMLSelectElement | null): Gateway {
  const option = gateways?.selectedOptions[0];
  const { publicKey, endpoint, dns } = option?.dataset ?? {};
  if (!option || !publicKey || !endpoint) {
    throw new Problem("There is no gateway just now that a configuration could name, so no key was made. Reload this page in a minute.");
  }
  return { name: option.value, publicKey, endpoint, dns: dns ?? "" };
}

function fields(form: HTMLFormElement): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [name, value] of new FormData(form)) if (typeof value === "string") found[name] = value;
  return found;
}
