// Compiles the contracts and writes <folder>/<Name>.json: { abi, bytecode }, the bytecode being the creation code.
//
// node build.mjs [FOLDER]        FOLDER is `abi` unless given
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { compile } from "./compiler.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const PUBLISHED = {
  Access: "src/Access.sol",
  Alarms: "src/Alarms.sol",
  AnchorPoint: "src/AnchorPoint.sol",
  Anchors: "src/Anchors.sol",
  Automation: "src/Automation.sol",
  Freeze: "src/Freeze.sol",
  GroupValidators: "src/GroupValidators.sol",
  IPolicy: "src/IPolicy.sol",
  OwnerAfterFloor: "src/OwnerAfterFloor.sol",
  Retention: "src/Retention.sol",
  Tags: "src/Tags.sol",
  Timeline: "src/Timeline.sol",
  Validators: "src/Validators.sol",
  Vault: "src/Vault.sol",
};
/** EIP-170 and EIP-3860: what an Ethereum chain accepts as code, and as creation code. */
const MOST_CODE_BYTES = 24_576;
const MOST_CREATION_BYTES = 49_152;

/** The same in foundry.toml; a test compares what comes out. */
const SETTINGS = {
  evmVersion: "paris",
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none" },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

function sourcesUnder(folder) {
  return readdirSync(join(HERE, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".sol"))
    .map((entry) => relative(HERE, join(entry.parentPath, entry.name)));
}

/** Every source with what it imports from packages; names are relative to this folder. */
function gather() {
  const sources = {};
  const waiting = sourcesUnder("src");
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (name in sources) continue;
    const file = [join(HERE, name), join(HERE, "node_modules", name)].find(existsSync);
    if (file === undefined) throw new Error(`${name}: no such source`);
    const content = readFileSync(file, "utf8");
    sources[name] = { content };
    for (const [, imported] of content.matchAll(/^\s*import\s[^"']*["']([^"']+)["']/gm)) {
      waiting.push(imported.startsWith(".") ? join(dirname(name), imported) : imported);
    }
  }
  return sources;
}

function build() {
  const output = JSON.parse(compile(JSON.stringify({ language: "Solidity", sources: gather(), settings: SETTINGS })));
  const messages = (output.errors ?? []).map((error) => error.formattedMessage);
  if (messages.length > 0) throw new Error(`the compiler is not silent\n\n${messages.join("\n")}`);
  return output.contracts;
}

function checkSize(name, evm) {
  const code = evm.deployedBytecode.object.length / 2;
  const creation = evm.bytecode.object.length / 2;
  if (code > MOST_CODE_BYTES) throw new Error(`${name}: code of ${code} bytes, at most ${MOST_CODE_BYTES}`);
  if (creation > MOST_CREATION_BYTES) throw new Error(`${name}: creation code of ${creation} bytes, at most ${MOST_CREATION_BYTES}`);
  return { code, creation };
}

const folder = process.argv[2] === undefined ? join(HERE, "abi") : resolve(process.argv[2]);
const contracts = build();
mkdirSync(folder, { recursive: true });
for (const [name, path] of Object.entries(PUBLISHED)) {
  const { abi, evm } = contracts[path][name];
  const { code, creation } = checkSize(name, evm);
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify({ abi, bytecode: `0x${evm.bytecode.object}` }, null, 2)}\n`);
  console.error(`${name}: ${code} bytes of code, ${creation} of creation code`);
}
