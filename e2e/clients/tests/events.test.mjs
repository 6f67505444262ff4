// SPDX-License-Identifier: Apache-2.0
// Chaincode, block and filtered block events by the unmodified @hyperledger/fabric-gateway.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { checkpointers } from '@hyperledger/fabric-gateway';
import { Network, commit, submit, take, text, unique } from '../lib/network.mjs';

const network = new Network();
const channel = network.channel();
const contract = channel.getContract('nodejs');

/** Commits transactions that set an event each, one after the other. */
async function announce(name, count) {
    const done = [];
    for (let i = 0; i < count; i += 1) {
        done.push(await commit(contract, 'announce', name, `${i}`));
    }
    return done;
}

/** What tells an event from another, of those named `name`. */
function seen(events, name) {
    return events
        .filter((event) => event.eventName === name)
        .map((event) => [event.blockNumber, event.transactionId, text(event.payload)]);
}

function expected(done, from = 0) {
    return done.slice(from).map((one, i) => [one.blockNumber, one.transactionId, `${from + i}`]);
}

describe('chaincode events', () => {
    test('are replayed from a block, in order, each once', async () => {
        const name = unique('replay');
        const done = await announce(name, 4);
        const events = await channel.getChaincodeEvents('nodejs', { startBlock: done[0].blockNumber });
        const all = await take(events, (all) => seen(all, name).length === 4);
        assert.deepEqual(seen(all, name), expected(done));
        assert.equal(all.every((event) => event.chaincodeName === 'nodejs'), true);
    });

    test('start with the next commit when nothing else is said', async () => {
        const name = unique('next');
        const [before] = await announce(name, 1);
        const events = await channel.getChaincodeEvents('nodejs');
        let first;
        let ended = false;
        const reading = take(events, () => true)
            .then((all) => (first = all[0]))
            .finally(() => (ended = true));
        // The stream may begin after the first of these; then a later one is its first event.
        while (!ended) {
            await announce(name, 1);
        }
        await reading;
        assert.ok(first.blockNumber > before.blockNumber, `${first.blockNumber} was committed before`);
    });

    test('of other chaincodes, and of transactions that commit invalid, are not told', async () => {
        const name = unique('invalid');
        const key = unique('key');
        const assets = network.contract('asset');
        await commit(assets, 'CreateAsset', key, 'red', '1', 'ada', '1');
        // Both write and announce; the second conflicts with the first.
        const transfer = (owner) =>
            assets.newProposal('TransferAsset', { arguments: [key, owner] }).endorse();
        const two = [await transfer('bert'), await transfer('cleo')];
        const [won, lost] = [await two[0].submit(), await two[1].submit()];
        assert.equal((await won.getStatus()).code, 0);
        const status = await lost.getStatus();
        assert.equal(status.code, 11);
        const last = await commit(assets, 'CreateAsset', name, 'red', '1', 'ada', '1');

        const start = (await won.getStatus()).blockNumber;
        const events = await channel.getChaincodeEvents('asset', { startBlock: start });
        const all = await take(events, (all) => all.at(-1).transactionId === last.transactionId);
        const ids = all.map((event) => event.transactionId);
        assert.ok(ids.includes(won.getTransactionId()));
        assert.equal(ids.includes(lost.getTransactionId()), false);
        assert.equal(all.every((event) => event.chaincodeName === 'asset'), true);
    });

    test('go on after a checkpoint in memory', async () => {
        const name = unique('memory');
        const done = await announce(name, 3);
        const checkpoint = checkpointers.inMemory();
        const first = await channel.getChaincodeEvents('nodejs', {
            checkpoint,
            startBlock: done[0].blockNumber,
        });
        for await (const event of first) {
            await checkpoint.checkpointChaincodeEvent(event);
            if (event.transactionId === done[1].transactionId) {
                break;
            }
        }
        first.close();
        done.push(...(await announce(name, 1)));
        const rest = await channel.getChaincodeEvents('nodejs', { checkpoint });
        const all = await take(rest, (all) => seen(all, name).length === 2);
        assert.deepEqual(
            seen(all, name).map(([, transactionId]) => transactionId),
            [done[2].transactionId, done[3].transactionId],
        );
    });

    test('go on after a checkpoint in a file', async () => {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-checkpoint-'));
        try {
            const file = path.join(folder, 'checkpoint.json');
            const name = unique('file');
            const done = await announce(name, 3);
            const checkpoint = await checkpointers.file(file);
            const first = await channel.getChaincodeEvents('nodejs', {
                checkpoint,
                startBlock: done[0].blockNumber,
            });
            for await (const event of first) {
                await checkpoint.checkpointChaincodeEvent(event);
                break;
            }
            first.close();
            const reopened = await checkpointers.file(file);
            assert.equal(reopened.getTransactionId(), done[0].transactionId);
            const rest = await channel.getChaincodeEvents('nodejs', { checkpoint: reopened });
            const all = await take(rest, (all) => seen(all, name).length === 2);
            assert.deepEqual(seen(all, name), expected(done, 1));
        } finally {
            fs.rmSync(folder, { recursive: true });
        }
    });

    test('go on in the middle of a block', async () => {
        const name = unique('middle');
        // What is sent at once shares blocks: while one is settled, others wait for the next.
        const found = await sharedBlock(name);
        const checkpoint = checkpointers.inMemory();
        const first = await channel.getChaincodeEvents('nodejs', { startBlock: found, checkpoint });
        const all = await take(first, (all) => all.at(-1).blockNumber > found || inBlock(all, found) >= 2);
        const own = all.filter((event) => event.blockNumber === found);
        await checkpoint.checkpointChaincodeEvent(own[0]);
        const rest = await channel.getChaincodeEvents('nodejs', { checkpoint });
        const [next] = await take(rest, () => true);
        assert.equal(next.transactionId, own[1].transactionId);
        assert.equal(next.blockNumber, found);
    });
});

function inBlock(events, number) {
    return events.filter((event) => event.blockNumber === number).length;
}

/** A block with at least two events of that name. */
async function sharedBlock(name) {
    for (let attempt = 0; attempt < 10; attempt += 1) {
        const done = await Promise.all(
            Array.from({ length: 20 }, (_, i) =>
                submit(contract, 'announce', { arguments: [`${name}-${attempt}-${i}`, 'x'] }),
            ),
        );
        const numbers = done.filter((one) => one.code === 0).map((one) => one.blockNumber);
        const shared = numbers.find((number, i) => numbers.indexOf(number) !== i);
        if (shared !== undefined) {
            return shared;
        }
    }
    return assert.fail('no two of 200 transactions shared a block');
}

/** The three kinds of block events, each with how its number and transaction ids are read. */
const kinds = [
    {
        name: 'block events',
        open: (options) => channel.getBlockEvents(options),
        number: (block) => BigInt(block.getHeader().getNumber()),
    },
    {
        name: 'filtered block events',
        open: (options) => channel.getFilteredBlockEvents(options),
        number: (block) => BigInt(block.getNumber()),
    },
    {
        name: 'block events with private data',
        open: (options) => channel.getBlockAndPrivateDataEvents(options),
        number: (block) => BigInt(block.getBlock().getHeader().getNumber()),
    },
];

for (const { name, open, number } of kinds) {
    describe(name, () => {
        test('give every block from the first one on', async () => {
            const { blockNumber } = await commit(contract, 'put', unique('k'), 'v');
            const blocks = await take(await open({ startBlock: 0n }), (all) => number(all.at(-1)) === blockNumber);
            assert.deepEqual(
                blocks.map(number),
                Array.from({ length: Number(blockNumber) + 1 }, (_, i) => BigInt(i)),
            );
        });

        test('wait for blocks to come', async () => {
            const { blockNumber } = await commit(contract, 'put', unique('k'), 'v');
            const reading = open({ startBlock: blockNumber + 1n }).then((events) => take(events, () => true));
            const next = await commit(contract, 'put', unique('k'), 'v');
            assert.equal(next.blockNumber, blockNumber + 1n);
            assert.deepEqual((await reading).map(number), [blockNumber + 1n]);
        });

        test('go on after a checkpoint', async () => {
            const first = await commit(contract, 'put', unique('k'), 'v');
            const checkpoint = checkpointers.inMemory();
            const events = await open({ startBlock: first.blockNumber, checkpoint });
            for await (const block of events) {
                await checkpoint.checkpointBlock(number(block));
                break;
            }
            events.close();
            const second = await commit(contract, 'put', unique('k'), 'v');
            const [next] = await take(await open({ checkpoint }), () => true);
            assert.equal(number(next), first.blockNumber + 1n);
            assert.equal(second.blockNumber, first.blockNumber + 1n);
        });
    });
}

test('events can be tied to the certificate of the TLS connection', async () => {
    const tls = path.join(network.dir, 'org1/users/user1/tls');
    const read = (name) => fs.readFileSync(path.join(tls, name));
    const org = network.org('Org1MSP');
    const credentials = grpc.credentials.createSsl(
        fs.readFileSync(org.tlsCaCert),
        read('client.key'),
        read('client.crt'),
    );
    const { raw } = new crypto.X509Certificate(read('client.crt'));
    const first = async (tlsClientCertificateHash) => {
        const client = new grpc.Client(org.peers[0], credentials);
        try {
            const mutual = network.channel({ client, tlsClientCertificateHash });
            const [block] = await take(await mutual.getBlockEvents({ startBlock: 0n }), () => true);
            return block.getHeader().getNumber();
        } finally {
            client.close();
        }
    };
    assert.equal(await first(crypto.createHash('sha256').update(raw).digest()), 0);
    // BAD_REQUEST of the Deliver service.
    await assert.rejects(first(crypto.randomBytes(32)), /status response: 400/);
});

test('a filtered block tells each transaction, its code and its event without the payload', async () => {
    const name = unique('filtered');
    const done = await commit(contract, 'announce', name, 'a payload');
    const [block] = await take(await channel.getFilteredBlockEvents({ startBlock: done.blockNumber }), () => true);
    assert.equal(block.getChannelId(), network.connection.channel);
    const own = block.getFilteredTransactionsList().find((one) => one.getTxid() === done.transactionId);
    assert.equal(own.getTxValidationCode(), 0);
    // ENDORSER_TRANSACTION
    assert.equal(own.getType(), 3);
    const [action] = own.getTransactionActions().getChaincodeActionsList();
    const event = action.getChaincodeEvent();
    assert.equal(event.getEventName(), name);
    assert.equal(event.getTxId(), done.transactionId);
    assert.equal(event.getChaincodeId(), 'nodejs');
    assert.equal(event.getPayload_asU8().length, 0);
});

test('a block with private data is the block itself', async () => {
    const done = await commit(contract, 'put', unique('k'), 'v');
    const options = { startBlock: done.blockNumber };
    const [block] = await take(await channel.getBlockEvents(options), () => true);
    const [full] = await take(await channel.getBlockAndPrivateDataEvents(options), () => true);
    assert.deepEqual(full.getBlock().serializeBinary(), block.serializeBinary());
    assert.equal(full.getPrivateDataMapMap().getLength(), 0);
});
