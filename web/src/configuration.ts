// The text that wg-quick and every WireGuard app read.

export interface Gateway {
  readonly name: string;
  readonly publicKey: string;
  readonly endpoint: string;
  readonly dns: string;
}

export interface Device {
  readonly name: string;
  readonly privateKey: string;
  readonly presharedKey: string;
  readonly addresses: readonly string[];
}

// No keepalive: it would tell the gateway that this device is there while nobody uses it.
export function configuration(device: Device, gateway: Gateway): string {
  const lines = [
    "[Interface]",
    `PrivateKey = ${device.privateKey}`,
    `Address = ${device.addresses.join(", ")}`,
    gateway.dns && `DNS = ${gateway.dns}`,
    "\n[Peer]",
    `PublicKey = ${gateway.publicKey}`,
    `PresharedKey = ${device.presharedKey}`,
    "AllowedIPs = 0.0.0.0/0, ::/0",
    `Endpoint = ${gateway.endpoint}`,
  ];
  return lines.filter(Boolean).join("\n") + "\n";
}

/** wg-quick names the interface after the file, and Linux takes 15 characters. */
export function fileName(gateway: Gateway): string {
  return `exuvia-${gateway.name.replace(/[^\w=+.-]/g, "")}`.slice(0, 15) + ".conf";
}
