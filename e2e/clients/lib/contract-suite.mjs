// SPDX-License-Identifier: Apache-2.0
// What a contract on fabric-contract-api must be able to do, however it meets the peer.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { describe, test } from 'node:test';
import { peer } from '@hyperledger/fabric-protos';
import { commit, failure, query, submit, take, text, unique } from './network.mjs';
import { endorsersOf } from './transactions.mjs';

const codes = peer.TxValidationCode;
/** Arguments of a call from contract to contract. */
const call = (...args) => JSON.stringify(args);
const json = async (...args) => JSON.parse(await query(...args));

/** The suite, over the chaincode `name` of the network. */
export function contractSuite(network, name) {
    const contract = network.contract(name);

    describe(`${name}: state`, () => {
        test('is written, read and deleted', async () => {
            const key = unique('key');
            assert.equal((await commit(contract, 'put', key, 'eins')).result, 'eins');
            assert.equal(await query(contract, 'get', key), 'eins');
            await commit(contract, 'put', key, 'grüße ✓');
            assert.equal(await query(contract, 'get', key), 'grüße ✓');
            await commit(contract, 'remove', key);
            const error = await failure(query(contract, 'get', key));
            assert.match(error.details[0].message, new RegExp(`key ${key} does not exist`));
        });

        test('keeps the history of a key, the newest first', async () => {
            const key = unique('history');
            const done = [
                await commit(contract, 'put', key, '1'),
                await commit(contract, 'put', key, '2'),
                await commit(contract, 'remove', key),
                await commit(contract, 'put', key, '3'),
            ].reverse();
            const found = await json(contract, 'history', key);
            assert.deepEqual(
                found.map((entry) => [entry.value, entry.deleted, entry.tx]),
                [['3', false], ['', true], ['2', false], ['1', false]].map((entry, i) => [
                    ...entry,
                    done[i].transactionId,
                ]),
            );
        });
    });

    describe(`${name}: queries`, () => {
        test('of a range give its keys in order, without the end', async () => {
            const prefix = unique('range');
            for (const end of ['b', 'c', 'a']) {
                await commit(contract, 'put', `${prefix}.${end}`, end);
            }
            const found = await json(contract, 'range', `${prefix}.`, `${prefix}.c`);
            assert.deepEqual(found, [[`${prefix}.a`, 'a'], [`${prefix}.b`, 'b']]);
        });

        test('of a range see the ledger and not the transaction itself', async () => {
            const prefix = unique('own');
            await commit(contract, 'fill', `${prefix}.`, '3');
            assert.equal((await commit(contract, 'total', `${prefix}.`, `${prefix}.~`, `${prefix}.x`)).result, '3');
            assert.equal(await query(contract, 'count', `${prefix}.`, `${prefix}.~`), '4');
        });

        test('of many keys come in several messages', async () => {
            const prefix = unique('many');
            await commit(contract, 'fill', `${prefix}.`, '2500');
            assert.equal(await query(contract, 'count', `${prefix}.`, `${prefix}.~`), '2500');
        });

        test('come in pages, from bookmark to bookmark', async () => {
            const prefix = unique('page');
            await commit(contract, 'fill', `${prefix}.`, '7');
            const seen = [];
            let bookmark = '';
            const sizes = [];
            do {
                const page = await json(contract, 'page', `${prefix}.`, `${prefix}.~`, '3', bookmark);
                assert.equal(page.fetched, page.keys.length);
                seen.push(...page.keys);
                sizes.push(page.keys.length);
                bookmark = page.bookmark;
            } while (bookmark !== '');
            assert.deepEqual(sizes, [3, 3, 1]);
            assert.deepEqual(seen, Array.from({ length: 7 }, (_, i) => `${prefix}.0000${i}`));
        });

        test('of composite keys match whole parts only', async () => {
            const color = unique('blue');
            for (const [of, id] of [[color, '2'], [color, '1'], [`${color}ish`, '3']]) {
                await commit(contract, 'index', of, id);
            }
            assert.deepEqual(await json(contract, 'byColor', color), ['1', '2']);
            assert.deepEqual(await json(contract, 'byColor', `${color}ish`), ['3']);
            const page = await json(contract, 'pageByColor', color, '1', '');
            assert.deepEqual(page.ids, ['1']);
            assert.deepEqual((await json(contract, 'pageByColor', color, '1', page.bookmark)).ids, ['2']);
            // A range of simple keys does not show composite ones.
            const all = await json(contract, 'range', '', '');
            assert.equal(all.some(([key]) => key.includes(color)), false);
        });
    });

    describe(`${name}: a transaction`, () => {
        test('tells who calls, where and when', async () => {
            const { signer, identity } = network.identity('Org1MSP');
            const own = network.contract(name, { signer, identity });
            const proposal = own.newProposal('whoami');
            const told = JSON.parse(text(await proposal.evaluate()));
            assert.equal(told.mspId, 'Org1MSP');
            assert.equal(told.channel, network.connection.channel);
            assert.equal(told.tx, proposal.getTransactionId());
            assert.ok(Math.abs(Date.now() - Date.parse(told.timestamp)) < 60_000, told.timestamp);
            assert.match(told.binding, /^[0-9a-f]{64}$/);
            const certificate = new crypto.X509Certificate(identity.credentials);
            const commonName = /CN=(.*)/.exec(certificate.subject)[1];
            assert.match(told.id, new RegExp(`^x509::.*CN=${commonName}`));
            assert.equal((await json(network.contract(name, { mspId: 'Org2MSP' }), 'whoami')).mspId, 'Org2MSP');
        });

        test('sets an event', async () => {
            const event = unique('event');
            const done = await commit(contract, 'announce', event, 'payload');
            const events = await network
                .channel()
                .getChaincodeEvents(name, { startBlock: done.blockNumber });
            const all = await take(events, (all) => all.at(-1).transactionId === done.transactionId);
            assert.equal(all.at(-1).eventName, event);
            assert.equal(text(all.at(-1).payload), 'payload');
        });

        test('reads transient data', async () => {
            const secret = unique('secret');
            const done = await submit(contract, 'secret', { transientData: { secret } });
            assert.equal(done.code, codes.VALID);
            assert.equal(done.result, secret);
        });

        test('calls another contract, whose writes commit with it', async () => {
            const id = unique('asset');
            const done = await commit(contract, 'call', 'asset', call('CreateAsset', id, 'red', '7', 'ada', '1'));
            assert.equal(JSON.parse(done.result).ID, id);
            assert.equal(JSON.parse(await query(contract, 'call', 'asset', call('ReadAsset', id))).Size, 7);
            assert.equal(JSON.parse(await query(network.contract('asset'), 'ReadAsset', id)).Size, 7);
            const error = await failure(query(contract, 'call', 'asset', call('ReadAsset', unique('missing'))));
            assert.match(error.details[0].message, /asset: .*does not exist/);
        });

        test('calls a contract that more must endorse, and they do', async () => {
            const id = unique('asset');
            const transaction = await contract
                .newProposal('call', { arguments: ['pair', call('CreateAsset', id, 'red', '7', 'ada', '1')] })
                .endorse();
            const endorsers = endorsersOf(transaction.getBytes()).map((one) => one.mspId);
            assert.deepEqual(endorsers.sort(), ['Org1MSP', 'Org2MSP']);
            assert.equal((await (await transaction.submit()).getStatus()).code, codes.VALID);
            assert.equal(JSON.parse(await query(network.contract('pair'), 'ReadAsset', id)).ID, id);
        });
    });

    describe(`${name}: a key with endorsers of its own`, () => {
        test('is written only with their endorsement', async () => {
            const key = unique('key');
            await commit(contract, 'put', key, '1');
            await commit(contract, 'endorsedBy', key, 'PEER', 'Org2MSP');
            assert.deepEqual(await json(contract, 'endorsers', key), ['Org2MSP']);
            const put = async (value, endorsingOrganizations) =>
                (await submit(contract, 'put', { arguments: [key, value], endorsingOrganizations })).code;
            assert.equal(await put('2', ['Org1MSP']), codes.ENDORSEMENT_POLICY_FAILURE);
            assert.equal(await query(contract, 'get', key), '1');
            assert.equal(await put('3', ['Org2MSP']), codes.VALID);
            assert.equal(await query(contract, 'get', key), '3');
            // Changing the key's policy is writing the key.
            const change = { arguments: [key, 'PEER', 'Org1MSP'], endorsingOrganizations: ['Org1MSP'] };
            assert.equal((await submit(contract, 'endorsedBy', change)).code, codes.ENDORSEMENT_POLICY_FAILURE);
            change.endorsingOrganizations = ['Org2MSP'];
            assert.equal((await submit(contract, 'endorsedBy', change)).code, codes.VALID);
            assert.equal(await put('4', ['Org2MSP']), codes.ENDORSEMENT_POLICY_FAILURE);
            assert.equal(await put('5', ['Org1MSP']), codes.VALID);
        });

        test('is endorsed by them when the gateway chooses', async () => {
            const key = unique('key');
            await commit(contract, 'put', key, '1');
            await commit(contract, 'endorsedBy', key, 'PEER', 'Org2MSP');
            assert.equal((await submit(contract, 'put', { arguments: [key, '2'] })).code, codes.VALID);
        });
    });
}
