// The one compiler of this folder: the pinned `solc` of package.json, as a function of standard JSON.
// build.mjs calls it for the checked-in files, solc.mjs gives it to forge: both compile with the same bytes.
import { createRequire } from "node:module";

const load = createRequire(import.meta.url);

/** `0.8.x+commit.…`, as the compiler names itself. */
export function version() {
  return load("solc").version();
}

/** Standard JSON in, standard JSON out, both as text. */
export function compile(input) {
  return load("solc").compile(input);
}
