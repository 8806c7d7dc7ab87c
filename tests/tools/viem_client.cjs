// viem against a ledger of Blockhouse. Fails by its exit code.
const assert = require("node:assert/strict");
const viem = require("viem");
const { privateKeyToAccount } = require("viem/accounts");

const { HTTP_URL, WS_URL, PRIVATE_KEY, CHAIN_ID, BYTECODE, ABI } = process.env;

async function main() {
  const chain = viem.defineChain({
    id: Number(CHAIN_ID),
    name: "blockhouse",
    nativeCurrency: { name: "none", symbol: "NONE", decimals: 18 },
    rpcUrls: { default: { http: [HTTP_URL], webSocket: [WS_URL] } },
  });
  const reader = viem.createPublicClient({ chain, transport: viem.http(), pollingInterval: 50 });
  const sockets = viem.createPublicClient({ chain, transport: viem.webSocket(WS_URL) });
  const account = privateKeyToAccount(PRIVATE_KEY);
  const writer = viem.createWalletClient({ account, chain, transport: viem.http() });
  const abi = viem.parseAbi(JSON.parse(ABI));
  assert.equal(await reader.getChainId(), Number(CHAIN_ID));

  const deployed = await reader.waitForTransactionReceipt({ hash: await writer.deployContract({ abi, bytecode: BYTECODE }) });
  const address = deployed.contractAddress;
  const filter = await reader.createContractEventFilter({ abi, address, eventName: "Incremented" });
  const subscribed = subscriptionsOf(sockets.transport);
  const seen = new Promise((resolve, reject) => {
    sockets.watchContractEvent({ abi, address, eventName: "Incremented", onLogs: resolve, onError: reject });
  });
  const heads = [];
  sockets.watchBlocks({ onBlock: (block) => heads.push(block), onError: fail });
  await subscribed(2);
  const { request } = await reader.simulateContract({ account, abi, address, functionName: "increment" });
  const hash = await writer.writeContract(request);
  const receipt = await reader.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  assert.equal(receipt.effectiveGasPrice, 0n);
  const [log] = await seen;
  assert.deepEqual([log.args.value, log.transactionHash], [1n, hash]);
  await until(() => heads.some((head) => head.hash === receipt.blockHash));
  assert.deepEqual((await reader.getFilterChanges({ filter })).map((found) => found.transactionHash), [hash]);
  assert.deepEqual(await reader.getFilterChanges({ filter }), []);
  assert.equal(await reader.uninstallFilter({ filter }), true);

  assert.equal(await reader.readContract({ abi, address, functionName: "value" }), 1n);
  const events = await reader.getContractEvents({ abi, address, eventName: "Incremented", fromBlock: deployed.blockNumber });
  assert.equal(events.length, 1);
  assert.equal((await reader.getTransaction({ hash })).blockHash, receipt.blockHash);
  const fees = await reader.estimateFeesPerGas();
  assert.deepEqual([fees.maxFeePerGas, fees.maxPriorityFeePerGas], [0n, 0n]);
  const { accessList } = await reader.createAccessList({ account, to: address, data: request.data ?? "0xd09de08a" });
  assert.equal(accessList[0].address.toLowerCase(), address.toLowerCase());
  assert.equal(await reader.readContract({ abi, address, functionName: "value", blockNumber: deployed.blockNumber }), 0n);
  await waiting({ reader, sockets, writer, account, address, subscribed });
}

// A transaction that comes before the one with the nonce ahead of it waits, at the other node too, until that is there.
async function waiting({ reader, sockets, writer, account, address, subscribed }) {
  const arrived = [];
  sockets.watchPendingTransactions({ onTransactions: (hashes) => arrived.push(...hashes), onError: fail });
  await subscribed(3);
  const count = (blockTag) => reader.getTransactionCount({ address: account.address, blockTag });
  const nonce = await count("pending");
  assert.equal(nonce, await count("latest"));
  const send = (nonce) => writer.sendTransaction({ to: address, data: "0xd09de08a", gas: 100000n, nonce });
  const later = await send(nonce + 1);
  await until(() => arrived.includes(later));
  assert.equal((await sockets.getTransaction({ hash: later })).blockNumber, null);
  assert.notEqual((await sockets.request({ method: "txpool_status" })).queued, "0x0");
  assert.equal(await count("pending"), nonce);
  const earlier = await send(nonce);
  for (const hash of [earlier, later]) {
    assert.equal((await reader.waitForTransactionReceipt({ hash })).status, "success");
  }
  // The earlier one may be final there before anybody tells of it.
  assert.equal(arrived.filter((hash) => hash === later).length, 1);
  assert.equal(await count("latest"), nonce + 2);
}

// Waits for what must come. Who runs this ends it some time.
async function until(isSo) {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 20));
}

// Waits for the answers to all subscriptions asked for so far: viem itself waits for none, and answers of one socket need
// not come in the order of their requests.
function subscriptionsOf(transport) {
  const asked = [];
  const { subscribe } = transport;
  transport.subscribe = (request) => {
    const answer = subscribe(request);
    asked.push(answer);
    return answer;
  };
  return async (count) => assert.equal((await Promise.all(asked)).length, count);
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

main().then(() => process.exit(0)).catch(fail);
