// SPDX-License-Identifier: Apache-2.0
// A contract on the unmodified fabric-chaincode-python, as a service that peers dial.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { Network, commit, failure, query, text, unique } from '../lib/network.mjs';

const network = new Network();
const contract = network.contract('python');
const json = async (...call) => JSON.parse(await query(contract, ...call));

describe('python', () => {
    test('writes, reads and deletes', async () => {
        const key = unique('key');
        assert.equal((await commit(contract, 'put', key, 'grüße ✓')).result, 'grüße ✓');
        assert.equal(await query(contract, 'get', key), 'grüße ✓');
        await commit(contract, 'remove', key);
        const error = await failure(query(contract, 'get', key));
        assert.match(error.details[0].message, new RegExp(`key ${key} does not exist`));
    });

    test('is endorsed at every peer', async () => {
        for (const options of [{ peer: 1 }, { mspId: 'Org2MSP' }]) {
            await commit(network.contract('python', options), 'put', unique('key'), 'v');
        }
    });

    test('queries a range', async () => {
        const prefix = unique('range');
        for (const end of ['b', 'c', 'a']) {
            await commit(contract, 'put', `${prefix}.${end}`, end);
        }
        assert.deepEqual(await json('range', `${prefix}.`, `${prefix}.c`), [
            [`${prefix}.a`, 'a'],
            [`${prefix}.b`, 'b'],
        ]);
    });

    test('queries composite keys', async () => {
        const color = unique('red');
        for (const name of ['2', '1']) {
            await commit(contract, 'index', color, name);
        }
        assert.deepEqual(await json('by_color', color), ['1', '2']);
    });

    test('reads the history of a key', async () => {
        const key = unique('history');
        const first = await commit(contract, 'put', key, '1');
        const second = await commit(contract, 'remove', key);
        assert.deepEqual(await json('history', key), [
            { value: '', deleted: true, tx: second.transactionId },
            { value: '1', deleted: false, tx: first.transactionId },
        ]);
    });

    test('knows who calls', async () => {
        const proposal = contract.newProposal('whoami');
        const told = JSON.parse(text(await proposal.evaluate()));
        assert.equal(told.mspId, 'Org1MSP');
        assert.equal(told.certificate, fs.readFileSync(network.org('Org1MSP').user.cert, 'utf8'));
        assert.equal(told.channel, network.connection.channel);
        assert.equal(told.tx, proposal.getTransactionId());
        assert.ok(Math.abs(Date.now() / 1000 - told.seconds) < 60);
    });

    // One at a time: fabric-chaincode-python 2.5.4 loses answers that two calls write at once
    // (grpc: GRPC_CALL_ERROR_TOO_MANY_OPERATIONS), whatever peer has called.
    test('works on many transactions, one after the other', async () => {
        for (let i = 0; i < 20; i += 1) {
            const key = unique('many');
            await commit(contract, 'put', key, key);
            assert.equal(await query(contract, 'get', key), key);
        }
    });
});
