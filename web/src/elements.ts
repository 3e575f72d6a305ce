// Elements made by calls, for nothing here is parsed from text.

export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Partial<HTMLElementTagNameMap[Name]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Shows a text where an alert belongs, or hides that place; a screen reader says it. */
export function say(place: HTMLElement | null, text: string): void {
  if (!place) return;
  place.textContent = text;
  place.hidden = !text;
}
