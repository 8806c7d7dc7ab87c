#!/usr/bin/env node
// What forge takes for a native `solc`: answers `--version` and `--standard-json`, and nothing else.
// Paths and include folders on the command line are not needed: forge sends every source in the JSON.
import { text } from "node:stream/consumers";
import { compile, version } from "./compiler.mjs";

const options = process.argv.slice(2);
if (options.includes("--version")) {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${version()}\n`);
} else if (options.includes("--standard-json")) {
  process.stdout.write(compile(await text(process.stdin)));
} else {
  process.stderr.write("solc.mjs speaks --version and --standard-json only\n");
  process.exitCode = 2;
}
