// SPDX-License-Identifier: Apache-2.0
// A contract on the unmodified fabric-contract-api, which touches every call that the peer
// answers for a key-value ledger.
'use strict';

const { Contract } = require('fabric-contract-api');

/** Reads a state iterator to its end. */
async function collect(iterator) {
    const found = [];
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        found.push(next.value);
    }
    await iterator.close();
    return found;
}

class KeyValue extends Contract {
    constructor() {
        super('keyvalue');
    }

    async put(ctx, key, value) {
        await ctx.stub.putState(key, Buffer.from(value));
        return value;
    }

    async get(ctx, key) {
        const value = await ctx.stub.getState(key);
        if (value.length === 0) {
            throw new Error(`key ${key} does not exist`);
        }
        return value.toString();
    }

    async remove(ctx, key) {
        await ctx.stub.deleteState(key);
    }

    async range(ctx, start, end) {
        const found = await collect(await ctx.stub.getStateByRange(start, end));
        return JSON.stringify(found.map((entry) => [entry.key, entry.value.toString()]));
    }

    async page(ctx, start, end, size, bookmark) {
        const page = await ctx.stub.getStateByRangeWithPagination(start, end, Number(size), bookmark);
        const found = await collect(page.iterator);
        return JSON.stringify({
            keys: found.map((entry) => entry.key),
            fetched: page.metadata.fetchedRecordsCount,
            bookmark: page.metadata.bookmark,
        });
    }

    async index(ctx, color, id) {
        const key = ctx.stub.createCompositeKey('color~id', [color, id]);
        await ctx.stub.putState(key, Buffer.from('\u0000'));
    }

    async byColor(ctx, color) {
        const found = await collect(await ctx.stub.getStateByPartialCompositeKey('color~id', [color]));
        return JSON.stringify(
            found.map((entry) => ctx.stub.splitCompositeKey(entry.key).attributes[1]),
        );
    }

    async history(ctx, key) {
        const found = await collect(await ctx.stub.getHistoryForKey(key));
        return JSON.stringify(
            found.map((entry) => ({ value: entry.value.toString(), deleted: entry.isDelete, tx: entry.txId })),
        );
    }

    async announce(ctx, name, text) {
        ctx.stub.setEvent(name, Buffer.from(text));
        await ctx.stub.putState(`event-${name}`, Buffer.from(text));
    }

    async secret(ctx) {
        const value = ctx.stub.getTransient().get('secret');
        return value ? value.toString() : '';
    }

    async whoami(ctx) {
        return JSON.stringify({
            mspId: ctx.clientIdentity.getMSPID(),
            id: ctx.clientIdentity.getID(),
            channel: ctx.stub.getChannelID(),
            tx: ctx.stub.getTxID(),
            attribute: ctx.clientIdentity.getAttributeValue('none'),
            timestamp: ctx.stub.getDateTimestamp(),
            binding: ctx.stub.getBinding(),
        });
    }

    async call(ctx, chaincode, argsJson) {
        const args = JSON.parse(argsJson);
        const response = await ctx.stub.invokeChaincode(chaincode, args, ctx.stub.getChannelID());
        if (response.status !== 200) {
            throw new Error(`${chaincode}: ${response.message}`);
        }
        return response.payload.toString();
    }

    async endorsedBy(ctx, key, role, mspId) {
        const { KeyEndorsementPolicy } = require('fabric-shim');
        const policy = new KeyEndorsementPolicy();
        policy.addOrgs(role, mspId);
        await ctx.stub.setStateValidationParameter(key, policy.getPolicy());
    }

    async endorsers(ctx, key) {
        const { KeyEndorsementPolicy } = require('fabric-shim');
        const policy = await ctx.stub.getStateValidationParameter(key);
        return JSON.stringify(policy?.length ? new KeyEndorsementPolicy(policy).listOrgs() : []);
    }

    async pageByColor(ctx, color, size, bookmark) {
        const page = await ctx.stub.getStateByPartialCompositeKeyWithPagination(
            'color~id',
            [color],
            Number(size),
            bookmark,
        );
        const found = await collect(page.iterator);
        return JSON.stringify({
            ids: found.map((entry) => ctx.stub.splitCompositeKey(entry.key).attributes[1]),
            bookmark: page.metadata.bookmark,
        });
    }

    async fill(ctx, prefix, count) {
        for (let i = 0; i < Number(count); i += 1) {
            await ctx.stub.putState(`${prefix}${String(i).padStart(5, '0')}`, Buffer.from(String(i)));
        }
    }

    async count(ctx, start, end) {
        return String((await collect(await ctx.stub.getStateByRange(start, end))).length);
    }

    /** Reads a range and writes a key: conflicts with whoever writes into the range. */
    async total(ctx, start, end, into) {
        const found = await collect(await ctx.stub.getStateByRange(start, end));
        await ctx.stub.putState(into, Buffer.from(String(found.length)));
        return String(found.length);
    }

    async fail(ctx, message) {
        throw new Error(message);
    }

    async sleep(ctx, milliseconds) {
        await new Promise((resolve) => setTimeout(resolve, Number(milliseconds)));
    }

    async end() {
        process.exit(3);
    }
}

module.exports.contracts = [KeyValue];
