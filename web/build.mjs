// Bundles src/ into the folder that is named: the same bytes on every machine.

import { readdir, readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const [into] = process.argv.slice(2);

await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ["src/portal.ts"],
  outdir: into,
  bundle: true,
  minify: true,
  format: "esm",
  splitting: true,
  target: "es2022",
  charset: "utf8",
  chunkNames: "[name]-[hash]",
  legalComments: "none",
  logLevel: "warning",
});

// What others wrote is named, with the licence under which it came.
const names = ["@noble/curves", "@noble/hashes", "uqr"];
const texts = await Promise.all(names.map(licence));
await writeFile(`${into}/licences.txt`, texts.join("\n"));

async function licence(name) {
  const folder = `${import.meta.dirname}/node_modules/${name}`;
  const { version } = JSON.parse(await readFile(`${folder}/package.json`, "utf8"));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  return `${name} ${version}\n\n${await readFile(`${folder}/${file}`, "utf8")}`;
}
