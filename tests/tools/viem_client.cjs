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
  const head = new Promise((resolve, reject) => {
    sockets.watchBlocks({ onBlock: resolve, onError: reject });
  });
  await subscribed();
  const { request } = await reader.simulateContract({ account, abi, address, functionName: "increment" });
  const hash = await writer.writeContract(request);
  const receipt = await reader.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  assert.equal(receipt.effectiveGasPrice, 0n);
  const [log] = await seen;
  assert.deepEqual([log.args.value, log.transactionHash], [1n, hash]);
  assert.equal((await head).number, receipt.blockNumber);
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
  (await sockets.transport.getRpcClient()).close();
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
  return async () => assert.equal((await Promise.all(asked)).length, 2);
}

main().then(() => process.exit(0)).catch((error) => {
  console.error(error);
  process.exit(1);
});
