// A QR code as SVG, built node by node: the policy of these pages lets nothing be parsed from text.

import { encode } from "uqr";

const SVG = "http://www.w3.org/2000/svg";
const QUIET = 4;

export function qrCode(text: string, label: string): SVGSVGElement {
  const { data, size } = encode(text, { border: 0 });
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", data.map(row).join(""));
  const svg = document.createElementNS(SVG, "svg");
  const whole = size + 2 * QUIET;
  svg.setAttribute("viewBox", `${-QUIET} ${-QUIET} ${whole} ${whole}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  svg.setAttribute("shape-rendering", "crispEdges");
  svg.classList.add("qr");
  svg.append(path);
  return svg;
}

function row(modules: boolean[], y: number): string {
  return modules.map((isDark, x) => (isDark ? `M${x} ${y}h1v1h-1z` : "")).join("");
}
