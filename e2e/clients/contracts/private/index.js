// SPDX-License-Identifier: Apache-2.0
// A contract on the unmodified fabric-contract-api, which touches every call that the peer
// answers for private data. Values come as transient data: arguments are part of the transaction.
'use strict';

const crypto = require('node:crypto');
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

/** The value that the client passed beside the transaction. */
function transientValue(ctx) {
    const value = ctx.stub.getTransient().get('value');
    if (!value) {
        throw new Error('there is no transient data "value"');
    }
    return Buffer.from(value);
}

class PrivateValue extends Contract {
    constructor() {
        super('privatevalue');
    }

    async put(ctx, collection, key) {
        await ctx.stub.putPrivateData(collection, key, transientValue(ctx));
    }

    /** One transaction, one value, several collections. */
    async putAll(ctx, collections, key) {
        for (const collection of JSON.parse(collections)) {
            await ctx.stub.putPrivateData(collection, key, transientValue(ctx));
        }
    }

    async get(ctx, collection, key) {
        const value = await ctx.stub.getPrivateData(collection, key);
        if (value.length === 0) {
            throw new Error(`key ${key} does not exist in ${collection}`);
        }
        return value.toString();
    }

    /** The hash that every peer has; empty when there is no value. */
    async hash(ctx, collection, key) {
        return Buffer.from(await ctx.stub.getPrivateDataHash(collection, key)).toString('hex');
    }

    /** Whether what the client shows is what the members have agreed on. */
    async verify(ctx, collection, key) {
        const shown = crypto.createHash('sha256').update(transientValue(ctx)).digest('hex');
        return String(shown === (await this.hash(ctx, collection, key)));
    }

    async remove(ctx, collection, key) {
        await ctx.stub.deletePrivateData(collection, key);
    }

    async purge(ctx, collection, key) {
        await ctx.stub.purgePrivateData(collection, key);
    }

    /** Reads before it writes: conflicts with whoever writes the key meanwhile. */
    async append(ctx, collection, key) {
        const before = await ctx.stub.getPrivateData(collection, key);
        const after = Buffer.concat([Buffer.from(before), transientValue(ctx)]);
        await ctx.stub.putPrivateData(collection, key, after);
    }

    async range(ctx, collection, start, end) {
        const { iterator } = await ctx.stub.getPrivateDataByRange(collection, start, end);
        const found = await collect(iterator);
        return JSON.stringify(found.map((entry) => [entry.key, entry.value.toString()]));
    }

    async index(ctx, collection, color, id) {
        const key = ctx.stub.createCompositeKey('color~id', [color, id]);
        await ctx.stub.putPrivateData(collection, key, transientValue(ctx));
    }

    async byColor(ctx, collection, color) {
        const query = ctx.stub.getPrivateDataByPartialCompositeKey(collection, 'color~id', [color]);
        const found = await collect((await query).iterator);
        return JSON.stringify(
            found.map((entry) => [
                ctx.stub.splitCompositeKey(entry.key).attributes[1],
                entry.value.toString(),
            ]),
        );
    }

    async endorsedBy(ctx, collection, key, role, mspId) {
        const { KeyEndorsementPolicy } = require('fabric-shim');
        const policy = new KeyEndorsementPolicy();
        policy.addOrgs(role, mspId);
        await ctx.stub.setPrivateDataValidationParameter(collection, key, policy.getPolicy());
    }

    async endorsers(ctx, collection, key) {
        const { KeyEndorsementPolicy } = require('fabric-shim');
        const policy = await ctx.stub.getPrivateDataValidationParameter(collection, key);
        return JSON.stringify(policy?.length ? new KeyEndorsementPolicy(policy).listOrgs() : []);
    }

    /** Something for the ledger, so that blocks go on. */
    async touch(ctx, key) {
        await ctx.stub.putState(key, Buffer.from('touched'));
    }
}

module.exports.contracts = [PrivateValue];
