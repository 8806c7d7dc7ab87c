"""web3.py against a ledger of Blockhouse, and a library of its own that checks the proofs. Fails by its exit code."""

import asyncio
import json
import os
import re

import rlp
from trie import HexaryTrie
from web3 import AsyncWeb3, Web3, WebSocketProvider

# What a library for contracts wants, from the signatures that the other clients take.
ABI = []
for line in json.loads(os.environ["ABI"]):
    name = re.match(r"\w+ (\w+)", line)[1]
    if line.startswith("event"):
        ABI.append({"type": "event", "name": name, "anonymous": False,
                    "inputs": [{"name": "value", "type": "uint256", "indexed": True}]})
    else:
        view = "view" in line
        outputs = [{"name": "", "type": "uint256"}] if view else []
        ABI.append({"type": "function", "name": name, "inputs": [], "outputs": outputs,
                    "stateMutability": "view" if view else "nonpayable"})


def check_proof(root, key, value, nodes):
    """The trie under `root` holds `value` at `key`, by these nodes alone."""
    decoded = [rlp.decode(bytes(node)) for node in nodes]
    assert HexaryTrie.get_from_proof(bytes(root), Web3.keccak(key), decoded) == value


def plain(web3, account):
    assert web3.eth.chain_id == int(os.environ["CHAIN_ID"])
    assert web3.is_connected() and web3.client_version.startswith("blockhouse/")

    def send(transaction):
        transaction = {**transaction, "from": account.address, "nonce": web3.eth.get_transaction_count(account.address, "pending")}
        transaction.setdefault("gas", web3.eth.estimate_gas(transaction))
        signed = account.sign_transaction({**transaction, "gasPrice": web3.eth.gas_price, "chainId": web3.eth.chain_id})
        return web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(signed.raw_transaction), poll_latency=0.05)

    contract = web3.eth.contract(abi=ABI, bytecode=os.environ["BYTECODE"])
    fields = contract.constructor().build_transaction({"from": account.address, "gasPrice": 0})
    deployed = send({"data": fields["data"]})
    contract = web3.eth.contract(address=deployed.contractAddress, abi=ABI)
    new_logs = web3.eth.filter({"address": contract.address})
    new_blocks = web3.eth.filter("latest")
    receipt = send({"to": contract.address, "data": contract.encode_abi("increment")})
    assert receipt.status == 1 and receipt.effectiveGasPrice == 0
    events = contract.events.Incremented().process_receipt(receipt)
    assert [event["args"]["value"] for event in events] == [1]
    assert [log["transactionHash"] for log in new_logs.get_new_entries()] == [receipt.transactionHash]
    # Others write to this ledger too.
    assert receipt.blockHash in new_blocks.get_new_entries()
    assert contract.functions.value().call() == 1
    found = contract.events.Incremented().get_logs(from_block=deployed.blockNumber)
    assert [log["blockHash"] for log in found] == [receipt.blockHash]

    # Blocks of others that come meanwhile leave the state after this one where it is.
    head = web3.eth.get_block("latest")
    proof = web3.eth.get_proof(contract.address, [0], head.number)
    record = rlp.encode([proof.nonce, proof.balance, bytes(proof.storageHash), bytes(proof.codeHash)])
    check_proof(head.stateRoot, bytes.fromhex(contract.address[2:]), record, proof.accountProof)
    slot = proof.storageProof[0]
    check_proof(proof.storageHash, bytes(32), rlp.encode(1), slot.proof)
    assert Web3.keccak(web3.eth.get_code(contract.address)) == proof.codeHash
    history = web3.eth.fee_history(2, "latest", [50])
    assert history.baseFeePerGas == [0, 0, 0]
    assert contract.functions.value().call(block_identifier=deployed.blockNumber) == 0
    return send, contract


async def subscribed(send, contract):
    async with AsyncWeb3(WebSocketProvider(os.environ["WS_URL"])) as web3:
        heads = await web3.eth.subscribe("newHeads")
        logs = await web3.eth.subscribe("logs", {"address": contract.address})
        transaction = {"to": contract.address, "data": contract.encode_abi("increment")}
        receipt = await asyncio.to_thread(send, transaction)
        missing = {(heads, receipt.blockHash), (logs, receipt.transactionHash)}
        async for message in web3.socket.process_subscriptions():
            subscription, result = message["subscription"], message["result"]
            missing.discard((subscription, result["hash" if subscription == heads else "transactionHash"]))
            if not missing:
                break


if __name__ == "__main__":
    client = Web3(Web3.HTTPProvider(os.environ["HTTP_URL"]))
    asyncio.run(subscribed(*plain(client, client.eth.account.from_key(os.environ["PRIVATE_KEY"]))))
