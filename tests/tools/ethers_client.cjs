// ethers against a ledger of Blockhouse: what a script of any user does. Fails by its exit code.
const assert = require("node:assert/strict");
const { ethers } = require("ethers");

const { HTTP_URL, WS_URL, PRIVATE_KEY, CHAIN_ID, BYTECODE, ABI, STRANGER_KEY } = process.env;

// Answers are kept for a quarter of a second by default, nonces too: an account that sends twice within it would fail.
const uncached = { cacheTimeout: -1 };

async function main() {
  const http = new ethers.JsonRpcProvider(HTTP_URL, undefined, uncached);
  const sockets = new ethers.WebSocketProvider(WS_URL, undefined, uncached);
  const subscribed = subscriptionsOf(sockets);
  const network = await http.getNetwork();
  assert.equal(network.chainId, BigInt(CHAIN_ID));

  const heads = [];
  await sockets.on("block", (number) => heads.push(number));
  await subscribed();
  // Others write to this ledger too, and the node that is listened to may be ahead of the one that is called.
  const first = await sockets.getBlockNumber();

  const wallet = new ethers.Wallet(PRIVATE_KEY, http);
  const factory = new ethers.ContractFactory(ABI, BYTECODE, wallet);
  const contract = await factory.deploy();
  await contract.waitForDeployment();
  const address = await contract.getAddress();
  assert.notEqual(await http.getCode(address), "0x");

  const listening = new ethers.Contract(address, ABI, sockets);
  let take;
  const seen = new Promise((resolve) => (take = resolve));
  await listening.once("Incremented", (value, event) => take({ value, hash: event.log.transactionHash }));
  await subscribed();
  const sent = await contract.increment();
  const receipt = await sent.wait();
  assert.equal(receipt.status, 1);
  assert.equal(receipt.fee, 0n);
  assert.deepEqual(await seen, { value: 1n, hash: sent.hash });
  assert.equal(await contract.value(), 1n);

  const logs = await contract.queryFilter("Incremented", 0);
  assert.equal(logs.length, 1);
  assert.equal(logs[0].blockHash, receipt.blockHash);
  const block = await http.getBlock(receipt.blockNumber, true);
  assert.ok(block.prefetchedTransactions.some((transaction) => transaction.hash === sent.hash));
  assert.equal(await http.getStorage(address, 0n), ethers.toBeHex(1n, 32));
  const { proof, stateRoot } = await provedNow(http, address);
  assert.equal(BigInt(proof.storageProof[0].value), 1n);
  assert.equal(ethers.keccak256(proof.accountProof[0]), stateRoot);

  const stranger = new ethers.Wallet(STRANGER_KEY, http);
  const refused = stranger.sendTransaction({ to: address, data: "0x", gasLimit: 100000n, gasPrice: 0n, type: 0 });
  await assert.rejects(refused, /is not enrolled/);
  const again = http.broadcastTransaction(await signedAgain(wallet, address));
  await assert.rejects(again, (error) => error.code === "NONCE_EXPIRED");

  // Each head once and in order, up to one that is there when all is done.
  const last = await http.getBlockNumber();
  while (!heads.includes(last)) await new Promise((resolve) => sockets.once("block", resolve));
  assert.deepEqual(heads.filter((number) => number > first && number <= last), range(first + 1, last));
  await sockets.destroy();
  http.destroy();
}

// A proof of what stands there now; blocks that come meanwhile take the state of that block from nobody.
async function provedNow(http, address) {
  const { number, stateRoot } = await http.getBlock("latest");
  return { proof: await http.send("eth_getProof", [address, ["0x0"], ethers.toQuantity(number)]), stateRoot };
}

// Waits for the answers to all subscriptions asked for so far: ethers itself waits for none, and answers of one socket
// need not come in the order of their requests.
function subscriptionsOf(provider) {
  const asked = [];
  const send = provider.send.bind(provider);
  provider.send = (method, params) => {
    const answer = send(method, params);
    if (method === "eth_subscribe") asked.push(answer);
    return answer;
  };
  return () => Promise.all(asked);
}

// A transaction whose nonce was used.
async function signedAgain(wallet, to) {
  const { chainId } = await wallet.provider.getNetwork();
  return wallet.signTransaction({ to, nonce: 0, gasLimit: 100000n, gasPrice: 0n, type: 0, chainId });
}

function range(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
