// Forms sent by script, and what comes back put into the words of these pages.

/** What went wrong and what to do, for people to read. */
export class Problem extends Error {}

const AGAIN = "Reload this page and try again.";

/** Sends a form's fields and returns the JSON of the answer; a Problem if there is none. */
export async function post<Answer>(url: string, fields: Record<string, string>): Promise<Answer> {
  let response: Response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams(fields),
      redirect: "error",
    });
  } catch {
    throw new Problem("The server can't be reached. Check your connection, then press the button again: nothing is done twice.");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer as Answer;
  throw new Problem(words(response.status, answer));
}

// What programs are told would not help people: these kinds are said in the words of these pages.
const WORDS: Record<string, string> = {
  "log-in": "You are logged out. Log in again, then come back to this page.",
  "device-limit-reached":
    "This account has all devices it may have. Delete one that is no longer used (its page is on Devices), then press the button again.",
  "not-found": "This device is gone: it was deleted, perhaps in another tab. Go to Devices to see which ones there are.",
  "key-refused": `The key could not be registered: this page may be out of date. ${AGAIN}`,
};

function words(status: number, answer: { type?: unknown; title?: unknown; detail?: unknown } | null): string {
  const known = WORDS[String(answer?.type).replace(/.*:/, "")];
  if (known) return known;
  const parts = [answer?.title, answer?.detail].filter((part) => typeof part === "string");
  if (!parts.length) return `The server gave an answer that this page can't read (${status}). ${AGAIN}`;
  return parts.map(sentence).join(" ");
}

function sentence(text: string): string {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** Returns what to show of an error. */
export function explained(error: unknown): string {
  if (error instanceof Problem) return error.message;
  return `This browser could not do it (${error instanceof Error ? error.name : "error"}). ${AGAIN}`;
}
