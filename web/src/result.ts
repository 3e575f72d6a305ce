// The configuration of a new key as people take it away: by camera, as a file, as text. Wiped when the page is left.

import { configuration, type Device, fileName, type Gateway } from "./configuration";
import { element } from "./elements";
import { qrCode } from "./qr";

export class Result {
  #device: Device | null;
  #url = "";

  constructor(
    private readonly place: HTMLElement,
    device: Device,
  ) {
    this.#device = device;
  }

  /** Shows the configuration for this gateway instead of any other. */
  show(gateway: Gateway): void {
    if (!this.#device) return;
    const text = configuration(this.#device, gateway);
    const name = fileName(gateway);
    const wasOpen = this.place.querySelector("details")?.open ?? false;
    this.#forgetFile();
    this.#url = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
    this.place.replaceChildren(
      element("h2", { textContent: `Configuration of ${this.#device.name}` }),
      element("p", { className: "warning" }, element("strong", { textContent: "Take it now. " }),
        "The private key was made in this page, was sent to nobody, and is gone when you leave or reload the page."),
      element("div", { className: "take" },
        element("figure", {},
          qrCode(text, `QR code of the configuration for ${gateway.name}`),
          element("figcaption", { textContent: "Phone: in the WireGuard app, add a tunnel from a QR code." })),
        element("div", { className: "file" },
          element("p", { className: "actions" },
            element("a", { className: "button", href: this.#url, download: name, textContent: `Download ${name}` }),
            copyButton(text)),
          element("p", { textContent: "Computer: import the file into the WireGuard app, or as root:" }),
          element("pre", { tabIndex: 0 }, `wg-quick up ./${name}`),
          element("p", { className: "hint", hidden: !gateway.dns, textContent: "If wg-quick misses resolvconf: on Debian, install openresolv." }),
          textOf(text, wasOpen))),
      element("p", {}, element("a", { href: "/", textContent: "I have it: back to the devices" })),
    );
    this.place.hidden = false;
  }

  /** Takes everything out of the page. */
  wipe(): void {
    this.#device = null;
    this.#forgetFile();
    this.place.replaceChildren();
    this.place.hidden = true;
  }

  #forgetFile(): void {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = "";
  }
}

function textOf(text: string, isOpen: boolean): HTMLElement {
  const shown = element("pre", { className: "configuration", tabIndex: 0, textContent: text });
  return element("details", { open: isOpen }, element("summary", { textContent: "Show the text" }), shown);
}

function copyButton(text: string): HTMLElement {
  const button = element("button", { type: "button", className: "quiet", textContent: "Copy the text" });
  button.addEventListener("click", () => {
    navigator.clipboard.writeText(text).then(
      () => (button.textContent = "Copied"),
      () => (button.textContent = "Copying is not allowed here: show the text and select it"),
    );
  });
  return button;
}
