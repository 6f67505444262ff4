// SPDX-License-Identifier: Apache-2.0
// Private data: a contract on the unmodified fabric-contract-api, called with transient data by
// the unmodified @hyperledger/fabric-gateway. See `collections` in network.yaml.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { describe, test } from 'node:test';
import { peer } from '@hyperledger/fabric-protos';
import { Network, failure, query, submit, take, text, unique, until } from '../lib/network.mjs';
import { endorsersOf } from '../lib/transactions.mjs';

const network = new Network();
const codes = peer.TxValidationCode;
const NAME = 'private';

const ORG1 = [{ mspId: 'Org1MSP', peer: 0 }, { mspId: 'Org1MSP', peer: 1 }];
const ORG2 = [{ mspId: 'Org2MSP', peer: 0 }];
const EVERY_PEER = [...ORG1, ...ORG2];
/** What a peer says that has the hash of a value and not the value. */
const NOT_HERE = /private data matching public hash version is not available/;

const contract = network.contract(NAME);
const sha256 = (value) => crypto.createHash('sha256').update(value).digest('hex');

/** Submits a transaction that must commit valid, with a value beside it. */
async function put(name, args, value, by = contract, options = {}) {
    const done = await submit(by, name, { arguments: args, transientData: { value }, ...options });
    assert.equal(done.code, codes.VALID, `${name} committed with validation code ${done.code}`);
    return done;
}

/** The same without one. */
async function commit(name, ...args) {
    const done = await submit(contract, name, { arguments: args });
    assert.equal(done.code, codes.VALID, `${name} committed with validation code ${done.code}`);
    return done;
}

/** Returns when these peers have committed a block. */
async function committedAt(peers, { blockNumber }) {
    for (const at of peers) {
        const events = await network.channel(at).getFilteredBlockEvents({ startBlock: blockNumber });
        await take(events, () => true);
    }
}

/** What a peer answers, or why it does not. */
async function ask(at, name, ...args) {
    try {
        return { value: await query(network.contract(NAME, at), name, ...args) };
    } catch (error) {
        return { error: [error.message, ...(error.details ?? []).map((one) => one.message)].join('\n') };
    }
}

/** Every one of these peers has the value, or gets it from another soon. */
async function arrivesAt(peers, collection, key, value) {
    for (const at of peers) {
        const what = `${collection}/${key} at peer ${at.peer} of ${at.mspId}`;
        await until(what, async () => (await ask(at, 'get', collection, key)).value === value, 60_000);
    }
}

/** The peers have the hash, and nothing but the hash. */
async function onlyHashAt(peers, collection, key, value) {
    for (const at of peers) {
        assert.equal((await ask(at, 'hash', collection, key)).value, sha256(value));
        const { value: seen, error } = await ask(at, 'get', collection, key);
        assert.equal(seen, undefined);
        assert.match(error, NOT_HERE);
    }
}

/** No peer has a value, nor a hash. */
async function goneAt(peers, collection, key) {
    for (const at of peers) {
        assert.match((await ask(at, 'get', collection, key)).error, /does not exist/);
        assert.equal((await ask(at, 'hash', collection, key)).value, '');
    }
}

describe('a private value', () => {
    test('is at every peer of every member', async () => {
        const [key, value] = [unique('key'), unique('value')];
        const done = await put('put', ['shared', key], value);
        await committedAt(EVERY_PEER, done);
        await arrivesAt(EVERY_PEER, 'shared', key, value);
        for (const at of EVERY_PEER) {
            assert.equal((await ask(at, 'hash', 'shared', key)).value, sha256(value));
        }
    });

    test('is written through the other member too', async () => {
        const [key, value] = [unique('key'), unique('value')];
        const done = await put('put', ['shared', key], value, network.contract(NAME, ORG2[0]));
        await committedAt(EVERY_PEER, done);
        await arrivesAt(EVERY_PEER, 'shared', key, value);
    });

    test('is at the other member when the endorsement says so', async () => {
        const [key, value] = [unique('key'), unique('value')];
        const done = await put('put', ['sure', key], value);
        await committedAt(ORG2, done);
        assert.equal((await ask(ORG2[0], 'get', 'sure', key)).value, value);
    });

    test('is not at the peer of another organization, which has its hash', async () => {
        for (const collection of ['open', 'guarded']) {
            const [key, value] = [unique('key'), unique('value')];
            const done = await put('put', [collection, key], value);
            await committedAt(EVERY_PEER, done);
            await arrivesAt(ORG1, collection, key, value);
            if (collection === 'open') {
                await onlyHashAt(ORG2, collection, key, value);
            } else {
                // Its client may not even try.
                assert.equal((await ask(ORG2[0], 'hash', collection, key)).value, sha256(value));
                const { error } = await ask(ORG2[0], 'get', collection, key);
                assert.match(error, /tx creator does not have read access permission on privatedata/);
            }
        }
    });

    test('is in no transaction, block or event', async () => {
        const [key, value] = [unique('key'), unique('canary')];
        const options = { arguments: ['shared', key], transientData: { value } };
        const transaction = await contract.newProposal('put', options).endorse();
        assert.equal(Buffer.from(transaction.getBytes()).includes(value), false);
        const done = await (await transaction.submit()).getStatus();
        assert.equal(done.code, codes.VALID);
        const events = await network.channel().getBlockEvents({ startBlock: done.blockNumber });
        const [block] = await take(events, () => true);
        const bytes = Buffer.from(block.serializeBinary());
        assert.equal(bytes.includes(value), false);
        for (const hashed of [key, value]) {
            assert.equal(bytes.includes(Buffer.from(sha256(hashed), 'hex')), true);
        }
    });

    test('of many bytes comes back as it was', async () => {
        const key = unique('key');
        const value = Array.from({ length: 20_000 }, (_, i) => String.fromCodePoint(0x100 + (i % 500))).join('');
        await put('put', ['shared', key], value);
        assert.equal(await query(contract, 'get', 'shared', key), value);
    });

    test('can be shown to someone who has the hash alone', async () => {
        const [key, value] = [unique('key'), unique('value')];
        await committedAt(ORG2, await put('put', ['open', key], value));
        const stranger = network.contract(NAME, ORG2[0]);
        const shown = async (value) =>
            text(await stranger.evaluate('verify', { arguments: ['open', key], transientData: { value } }));
        assert.equal(await shown(value), 'true');
        assert.equal(await shown(`${value}.`), 'false');
    });

    test('goes to several collections in one transaction', async () => {
        const [key, value] = [unique('key'), unique('value')];
        const collections = ['shared', 'open', '_implicit_org_Org1MSP'];
        const done = await put('putAll', [JSON.stringify(collections), key], value);
        await committedAt(EVERY_PEER, done);
        await arrivesAt(EVERY_PEER, 'shared', key, value);
        await arrivesAt(ORG1.slice(0, 1), 'open', key, value);
        await onlyHashAt(ORG2, 'open', key, value);
        await onlyHashAt(ORG2, '_implicit_org_Org1MSP', key, value);
    });

    test('of a collection that is not defined is refused', async () => {
        const options = { arguments: ['nowhere', unique('key')], transientData: { value: 'v' } };
        const error = await failure(submit(contract, 'put', options));
        assert.match(error.message, /nowhere/);
    });
});

describe('private keys', () => {
    test('are replaced and deleted', async () => {
        const key = unique('key');
        await put('put', ['shared', key], 'one');
        await committedAt(EVERY_PEER, await put('put', ['shared', key], 'two'));
        await arrivesAt(EVERY_PEER, 'shared', key, 'two');
        await committedAt(EVERY_PEER, await commit('remove', 'shared', key));
        await goneAt(EVERY_PEER, 'shared', key);
    });

    test('are purged', async () => {
        const [key, value] = [unique('key'), unique('value')];
        await committedAt(EVERY_PEER, await put('put', ['shared', key], value));
        await arrivesAt(EVERY_PEER, 'shared', key, value);
        await committedAt(EVERY_PEER, await commit('purge', 'shared', key));
        await goneAt(EVERY_PEER, 'shared', key);
        // A purged key is a key like any other.
        await put('put', ['shared', key], 'again');
        assert.equal(await query(contract, 'get', 'shared', key), 'again');
    });

    test('come in ranges, in order, without the end', async () => {
        const prefix = unique('range');
        for (const end of ['b', 'c', 'a']) {
            await put('put', ['shared', `${prefix}.${end}`], end);
        }
        const found = JSON.parse(await query(contract, 'range', 'shared', `${prefix}.`, `${prefix}.c`));
        assert.deepEqual(found, [[`${prefix}.a`, 'a'], [`${prefix}.b`, 'b']]);
        const elsewhere = JSON.parse(await query(contract, 'range', 'open', `${prefix}.`, `${prefix}.c`));
        assert.deepEqual(elsewhere, [], 'collections are apart');
    });

    test('may be composite', async () => {
        const color = unique('blue');
        await put('index', ['shared', color, '2'], 'two');
        await put('index', ['shared', color, '1'], 'one');
        await put('index', ['shared', `${color}ish`, '3'], 'three');
        const found = JSON.parse(await query(contract, 'byColor', 'shared', color));
        assert.deepEqual(found, [['1', 'one'], ['2', 'two']]);
    });

    test('that two transactions have read: the first takes effect, the second conflicts', async () => {
        const key = unique('key');
        await put('put', ['shared', key], 'a');
        const endorse = (value) => {
            const options = { arguments: ['shared', key], transientData: { value } };
            return contract.newProposal('append', options).endorse();
        };
        const [first, second] = [await endorse('b'), await endorse('c')];
        assert.equal((await (await first.submit()).getStatus()).code, codes.VALID);
        assert.equal((await (await second.submit()).getStatus()).code, codes.MVCC_READ_CONFLICT);
        assert.equal(await query(contract, 'get', 'shared', key), 'ab');
    });

    test('have endorsers of their own', async () => {
        const key = unique('key');
        await put('put', ['shared', key], '1');
        await commit('endorsedBy', 'shared', key, 'PEER', 'Org2MSP');
        assert.deepEqual(JSON.parse(await query(contract, 'endorsers', 'shared', key)), ['Org2MSP']);
        const options = { arguments: ['shared', key], transientData: { value: '2' } };
        const by = async (endorsingOrganizations) =>
            (await submit(contract, 'put', { ...options, endorsingOrganizations })).code;
        assert.equal(await by(['Org1MSP']), codes.ENDORSEMENT_POLICY_FAILURE);
        assert.equal(await by(['Org2MSP']), codes.VALID);
        await arrivesAt(EVERY_PEER, 'shared', key, '2');
    });
});

describe('a collection', () => {
    test('of one organization is read by a stranger where the contract lets it', async () => {
        const [key, value] = [unique('key'), unique('value')];
        await put('put', ['open', key], value);
        const guest = network.contract(NAME, { mspId: 'Org1MSP', ...network.identity('Org2MSP') });
        assert.equal(await query(guest, 'get', 'open', key), value);
    });

    test('for members alone is neither read nor written by others', async () => {
        const [key, value] = [unique('key'), unique('value')];
        await put('put', ['guarded', key], value);
        const guest = network.contract(NAME, { mspId: 'Org1MSP', ...network.identity('Org2MSP') });
        const read = await failure(query(guest, 'get', 'guarded', key));
        const said = (error) => [error.message, ...(error.details ?? []).map((one) => one.message)].join('\n');
        assert.match(
            said(read),
            /tx creator does not have read access permission on privatedata in chaincodeName:private collectionName: guarded/,
        );
        const options = { arguments: ['guarded', key], transientData: { value } };
        const written = await failure(submit(guest, 'put', options));
        assert.match(
            said(written),
            /tx creator does not have write access permission on privatedata in chaincodeName:private collectionName: guarded/,
        );
    });

    test('has endorsers of its own, whom the gateway finds', async () => {
        const options = { arguments: ['strict', unique('key')], transientData: { value: 'v' } };
        const transaction = await contract.newProposal('put', options).endorse();
        const endorsers = endorsersOf(transaction.getBytes()).map((one) => one.mspId);
        assert.deepEqual(endorsers.sort(), ['Org1MSP', 'Org2MSP']);
        assert.equal((await (await transaction.submit()).getStatus()).code, codes.VALID);
        const alone = await submit(contract, 'put', { ...options, endorsingOrganizations: ['Org1MSP'] });
        assert.equal(alone.code, codes.ENDORSEMENT_POLICY_FAILURE);
    });

    test('that every organization has for itself needs no definition', async () => {
        for (const [own, others] of [[ORG1, ORG2], [ORG2, ORG1]]) {
            const mspId = own[0].mspId;
            const collection = `_implicit_org_${mspId}`;
            const [key, value] = [unique('key'), unique('value')];
            const done = await put('put', [collection, key], value, network.contract(NAME, own[0]), {
                endorsingOrganizations: [mspId],
            });
            await committedAt(EVERY_PEER, done);
            await arrivesAt(own, collection, key, value);
            await onlyHashAt(others, collection, key, value);
        }
    });

    test('whose values live for two blocks forgets them after that', async () => {
        const [key, value] = [unique('key'), unique('value')];
        const done = await put('put', ['brief', key], value);
        // One transaction at a time: a block each, unless another suite's is in it.
        const next = async () => (await commit('touch', unique('touch'))).blockNumber;
        let height = await next();
        if (height <= done.blockNumber + 2n) {
            assert.equal((await ask(ORG1[0], 'get', 'brief', key)).value, value);
        }
        while (height <= done.blockNumber + 2n) {
            height = await next();
        }
        await committedAt(EVERY_PEER, { blockNumber: height });
        await goneAt(EVERY_PEER, 'brief', key);
    });
});

describe('events of blocks with private data', () => {
    /** The collections whose writes come with a block. */
    async function collectionsOf(options, { blockNumber }) {
        const events = await network.channel(options).getBlockAndPrivateDataEvents({ startBlock: blockNumber });
        const [event] = await take(events, () => true);
        const found = [];
        event.getPrivateDataMapMap().forEach((writes) => {
            for (const namespace of writes.getNsPvtRwsetList()) {
                for (const collection of namespace.getCollectionPvtRwsetList()) {
                    const bytes = Buffer.from(collection.getRwset_asU8());
                    found.push([namespace.getNamespace(), collection.getCollectionName(), bytes]);
                }
            }
        });
        return found;
    }

    test('have what the peer holds and the client may see', async () => {
        const [key, value] = [unique('key'), unique('value')];
        const done = await put('putAll', [JSON.stringify(['shared', 'open']), key], value);
        await committedAt(EVERY_PEER, done);
        await arrivesAt(EVERY_PEER, 'shared', key, value);
        const names = (found) => found.map(([namespace, collection]) => `${namespace}/${collection}`).sort();
        const own = await collectionsOf(ORG1[0], done);
        assert.deepEqual(names(own), ['private/open', 'private/shared']);
        assert.ok(own.every(([, , bytes]) => bytes.includes(value)));
        assert.deepEqual(names(await collectionsOf(ORG2[0], done)), ['private/shared']);
        const guest = { mspId: 'Org1MSP', ...network.identity('Org2MSP') };
        assert.deepEqual(names(await collectionsOf(guest, done)), ['private/shared']);
    });
});
