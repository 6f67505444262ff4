# SPDX-License-Identifier: Apache-2.0
"""A contract on the unmodified fabric-chaincode-python, run as a service."""

import json

from fabric_chaincode_python.fabric_contract_api import Contract, ContractChaincode, TransactionContext


async def collect(iterator):
    """Reads a query to its end."""
    return [entry async for entry in iterator]


class KeyValue(Contract):
    Name = "keyvalue"

    async def put(self, ctx: TransactionContext, key: str, value: str) -> str:
        await ctx.get_stub().put_state(key, value)
        return value

    async def get(self, ctx: TransactionContext, key: str) -> str:
        value = await ctx.get_stub().get_state(key)
        if not value:
            raise ValueError(f"key {key} does not exist")
        return value.decode()

    async def remove(self, ctx: TransactionContext, key: str) -> None:
        await ctx.get_stub().delete_state(key)

    async def range(self, ctx: TransactionContext, start: str, end: str) -> str:
        found = await collect(await ctx.get_stub().get_state_by_range(start, end))
        return json.dumps([[entry.key, entry.value.decode()] for entry in found])

    async def index(self, ctx: TransactionContext, color: str, name: str) -> None:
        stub = ctx.get_stub()
        await stub.put_state(stub.create_composite_key("color~id", [color, name]), b"\x00")

    async def by_color(self, ctx: TransactionContext, color: str) -> str:
        stub = ctx.get_stub()
        found = await collect(await stub.get_state_by_partial_composite_key("color~id", [color]))
        return json.dumps([stub.split_composite_key(entry.key)[1][1] for entry in found])

    async def history(self, ctx: TransactionContext, key: str) -> str:
        found = await collect(await ctx.get_stub().get_history_for_key(key))
        return json.dumps(
            [{"value": e.value.decode(), "deleted": e.is_delete, "tx": e.tx_id} for e in found]
        )

    async def whoami(self, ctx: TransactionContext) -> str:
        stub = ctx.get_stub()
        return json.dumps(
            {
                "mspId": ctx.get_client_identity().get_mspid(),
                "certificate": ctx.get_client_identity().get_x509().decode(),
                "channel": stub.get_channel_id(),
                "tx": stub.get_txid(),
                "seconds": stub.get_tx_timestamp().seconds,
            }
        )


if __name__ == "__main__":
    ContractChaincode.new_chaincode(KeyValue()).start()
