// Builds src into dist, or into the folder of the first argument.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, dirname } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "dist");
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: out,
  legalComments: "eof",
  logLevel: "warning",
});
writeFileSync(join(out, "icon.svg"), readFileSync(join(here, "src/icon.svg")));

// The page names each file with the hash of its content, so that browsers may keep the files for ever.
const version = (name) =>
  createHash("sha256").update(readFileSync(join(out, name))).digest("hex").slice(0, 16);
const page = readFileSync(join(here, "src/index.html"), "utf8")
  .replace(/(app\.js|app\.css|icon\.svg)/g, (name) => `/console/${name}?v=${version(name)}`);
writeFileSync(join(out, "index.html"), page);
