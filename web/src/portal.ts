// What pages do by script, found by their data-exuvia attributes. Pages without any are finished as they are.

import { attachNewKey } from "./new-key";
import { attachPasskeys } from "./passkeys";

for (const form of document.querySelectorAll<HTMLFormElement>('form[data-exuvia="new-key"]')) attachNewKey(form);
attachPasskeys();
