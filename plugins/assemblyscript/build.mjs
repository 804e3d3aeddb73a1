// Builds every plugin here (NAME.ts with NAME.json) to OUT/NAME_as.wasm: `node build.mjs OUT`.
import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";
import { withManifest } from "./manifest.mjs";

const out = resolve(process.argv[2] ?? ".");
mkdirSync(out, { recursive: true });
process.chdir(dirname(fileURLToPath(import.meta.url)));

for (const file of readdirSync(".")) {
  const name = file.replace(/\.json$/, "");
  if (name === file || /^(package|package-lock|asconfig)$/.test(name)) continue;
  const partial = join(out, `${name}_as.wasm.partial`);
  const { error, stderr } = await asc.main([
    `${name}.ts`,
    "--outFile", partial,
    "--optimizeLevel", "3",
    "--shrinkLevel", "0",
    "--noAssert",
    "--exportStart", "_initialize",
    "--use", "abort=host/abort",
  ]);
  if (error) {
    console.error(stderr.toString());
    process.exit(1);
  }
  const manifest = JSON.parse(readFileSync(file, "utf8"));
  writeFileSync(partial, withManifest(readFileSync(partial), manifest));
  renameSync(partial, join(out, `${name}_as.wasm`));
}
