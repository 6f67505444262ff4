// SPDX-License-Identifier: Apache-2.0
// Transactions by the unmodified @hyperledger/fabric-gateway.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { peer } from '@hyperledger/fabric-protos';
import { Network, commit, failure, query, submit, text, unique } from '../lib/network.mjs';
import { endorsersOf } from '../lib/transactions.mjs';

const network = new Network();
const codes = peer.TxValidationCode;
const asset = (id, owner = 'ada') => [id, 'blue', '5', owner, '300'];

describe('a transaction', () => {
    test('is submitted and read back', async () => {
        const contract = network.contract('asset');
        const id = unique('asset');
        const made = JSON.parse(text(await contract.submitTransaction('CreateAsset', ...asset(id))));
        assert.deepEqual(made, { ID: id, Color: 'blue', Size: 5, Owner: 'ada', AppraisedValue: 300 });
        assert.deepEqual(JSON.parse(await query(contract, 'ReadAsset', id)), made);
    });

    test('is seen through every peer', async () => {
        const id = unique('asset');
        const { blockNumber } = await commit(network.contract('asset'), 'CreateAsset', ...asset(id));
        for (const [mspId, at] of [['Org1MSP', 0], ['Org1MSP', 1], ['Org2MSP', 0]]) {
            const options = { mspId, peer: at };
            // A peer that is behind is waited for: its own commit status says when.
            const events = await network.channel(options).getFilteredBlockEvents({ startBlock: blockNumber });
            for await (const block of events) {
                assert.equal(BigInt(block.getNumber()), blockNumber);
                break;
            }
            events.close();
            assert.equal(JSON.parse(await query(network.contract('asset', options), 'ReadAsset', id)).ID, id);
        }
    });

    test('goes through its steps one by one', async () => {
        const contract = network.contract('asset');
        const id = unique('asset');
        const proposal = contract.newProposal('CreateAsset', { arguments: asset(id) });
        assert.match(proposal.getTransactionId(), /^[0-9a-f]{64}$/);

        const transaction = await proposal.endorse();
        assert.equal(transaction.getTransactionId(), proposal.getTransactionId());
        assert.equal(JSON.parse(text(transaction.getResult())).ID, id);
        // Endorsing alone writes nothing.
        assert.equal(await query(contract, 'AssetExists', id), 'false');

        const submitted = await transaction.submit();
        const status = await submitted.getStatus();
        assert.equal(status.code, codes.VALID);
        assert.equal(status.successful, true);
        assert.equal(status.transactionId, proposal.getTransactionId());
        assert.ok(status.blockNumber > 0n);
        // Asking again gives the same answer from the ledger.
        assert.deepEqual(await submitted.getStatus(), status);
        assert.equal(await query(contract, 'AssetExists', id), 'true');
    });

    test('carries bytes of any value unchanged', async () => {
        const contract = network.contract('asset');
        const key = unique('blob');
        const value = Uint8Array.from({ length: 70_000 }, (_, i) => i % 256);
        await contract.submitTransaction('Put', key, value);
        assert.deepEqual(Buffer.from(await contract.evaluateTransaction('Get', key)), Buffer.from(value));
    });

    test('is endorsed by both organizations where the policy wants both', async () => {
        const contract = network.contract('pair');
        const proposal = contract.newProposal('CreateAsset', { arguments: asset(unique('pair')) });
        const transaction = await proposal.endorse();
        const endorsers = endorsersOf(transaction.getBytes());
        assert.deepEqual(endorsers.map((one) => one.mspId).sort(), ['Org1MSP', 'Org2MSP']);
        const status = await (await transaction.submit()).getStatus();
        assert.equal(status.code, codes.VALID);
    });

    test('is endorsed by one organization where one is enough', async () => {
        const proposal = network.contract('asset').newProposal('Put', { arguments: [unique('k'), 'v'] });
        assert.equal(endorsersOf((await proposal.endorse()).getBytes()).length, 1);
    });

    test('is endorsed by the organizations that the client names', async () => {
        const contract = network.contract('asset');
        for (const organizations of [['Org2MSP'], ['Org1MSP', 'Org2MSP']]) {
            const proposal = contract.newProposal('CreateAsset', {
                arguments: asset(unique('asset')),
                endorsingOrganizations: organizations,
            });
            const transaction = await proposal.endorse();
            const endorsers = endorsersOf(transaction.getBytes());
            assert.deepEqual(endorsers.map((one) => one.mspId).sort(), organizations);
            assert.equal((await (await transaction.submit()).getStatus()).code, codes.VALID);
        }
    });

    test('with fewer endorsements than the policy wants commits invalid', async () => {
        const contract = network.contract('pair');
        const id = unique('pair');
        const done = await submit(contract, 'CreateAsset', {
            arguments: asset(id),
            endorsingOrganizations: ['Org1MSP'],
        });
        assert.equal(done.code, codes.ENDORSEMENT_POLICY_FAILURE);
        assert.equal(await query(contract, 'AssetExists', id), 'false');
        const thrown = await failure(
            contract.submit('CreateAsset', { arguments: asset(id), endorsingOrganizations: ['Org1MSP'] }),
        );
        assert.equal(thrown.name, 'CommitError');
        assert.equal(thrown.code, codes.ENDORSEMENT_POLICY_FAILURE);
    });

    test('of another user and of an administrator is accepted', async () => {
        const admin = network.contract('asset', network.identity('Org1MSP', 'admin'));
        await commit(admin, 'Put', unique('k'), 'by an administrator');
        // The client of one organization may use a peer of another as its gateway.
        const guest = network.contract('asset', { mspId: 'Org2MSP', ...network.identity('Org1MSP') });
        await commit(guest, 'Put', unique('k'), 'by a guest');
    });

    test('carries transient data to the contract and not to the ledger', async () => {
        const contract = network.contract('nodejs');
        const secret = unique('secret');
        const options = { transientData: { secret } };
        assert.equal(text(await contract.evaluate('secret', options)), secret);
        const transaction = await contract.newProposal('secret', options).endorse();
        assert.equal(text(transaction.getResult()), secret);
        const put = await contract
            .newProposal('put', { arguments: [unique('k'), 'public'], transientData: { secret } })
            .endorse();
        assert.equal(Buffer.from(put.getBytes()).includes(secret), false);
        assert.equal((await (await put.submit()).getStatus()).code, codes.VALID);
    });
});

describe('transactions that meet', () => {
    test('on one key: the first takes effect, the second is an MVCC conflict', async () => {
        const contract = network.contract('asset');
        const id = unique('asset');
        await commit(contract, 'CreateAsset', ...asset(id));
        const endorse = (owner) =>
            contract.newProposal('TransferAsset', { arguments: [id, owner] }).endorse();
        const first = await endorse('bert');
        const second = await endorse('cleo');
        const one = await first.submit();
        assert.equal((await one.getStatus()).code, codes.VALID);
        const other = await second.submit();
        const status = await other.getStatus();
        assert.equal(status.code, codes.MVCC_READ_CONFLICT);
        assert.equal(status.successful, false);
        assert.equal(JSON.parse(await query(contract, 'ReadAsset', id)).Owner, 'bert');
    });

    test('in a range that one has read: a phantom', async () => {
        const contract = network.contract('nodejs');
        const prefix = unique('range');
        await commit(contract, 'put', `${prefix}-a`, '1');
        const reader = await contract
            .newProposal('total', { arguments: [`${prefix}-`, `${prefix}-~`, `${prefix}.total`] })
            .endorse();
        assert.equal(text(reader.getResult()), '1');
        await commit(contract, 'put', `${prefix}-b`, '2');
        assert.equal((await (await reader.submit()).getStatus()).code, codes.PHANTOM_READ_CONFLICT);
    });

    test('sent twice, the same one takes effect once', async () => {
        const contract = network.contract('asset');
        const transaction = await contract
            .newProposal('CreateAsset', { arguments: asset(unique('asset')) })
            .endorse();
        const first = await (await transaction.submit()).getStatus();
        assert.equal(first.code, codes.VALID);
        const again = await (await transaction.submit()).getStatus();
        assert.equal(again.code, codes.VALID);
        assert.equal(again.blockNumber, first.blockNumber);
        // The copy stands in a later block, marked as such.
        const events = await network.channel().getFilteredBlockEvents({ startBlock: first.blockNumber });
        const found = [];
        for await (const block of events) {
            for (const one of block.getFilteredTransactionsList()) {
                if (one.getTxid() === transaction.getTransactionId()) {
                    found.push(one.getTxValidationCode());
                }
            }
            if (found.length === 2) {
                break;
            }
        }
        events.close();
        assert.deepEqual(found, [codes.VALID, codes.DUPLICATE_TXID]);
    });

    test('many at a time all commit', async () => {
        const contract = network.contract('asset');
        const keys = Array.from({ length: 60 }, () => unique('many'));
        const done = await Promise.all(keys.map((key) => submit(contract, 'Put', { arguments: [key, key] })));
        assert.deepEqual([...new Set(done.map((one) => one.code))], [codes.VALID]);
        assert.equal(new Set(done.map((one) => one.transactionId)).size, keys.length);
        for (const key of keys) {
            assert.equal(await query(contract, 'Get', key), key);
        }
    });
});

describe('offline signing', () => {
    /** A gateway that knows who acts and cannot sign. */
    function offline() {
        const { identity, signer } = network.identity('Org1MSP');
        return { gateway: network.gateway({ identity, signer: undefined }), sign: signer };
    }

    test('works for each step of a transaction', async () => {
        const { gateway, sign } = offline();
        const contract = gateway.getNetwork(network.connection.channel).getContract('asset');
        const id = unique('asset');

        const unsigned = contract.newProposal('CreateAsset', { arguments: asset(id) });
        const proposal = gateway.newSignedProposal(unsigned.getBytes(), await sign(unsigned.getDigest()));
        assert.equal(proposal.getTransactionId(), unsigned.getTransactionId());
        const unsignedTransaction = await proposal.endorse();
        const transaction = gateway.newSignedTransaction(
            unsignedTransaction.getBytes(),
            await sign(unsignedTransaction.getDigest()),
        );
        const unsignedCommit = await transaction.submit();
        const commitRequest = gateway.newSignedCommit(
            unsignedCommit.getBytes(),
            await sign(unsignedCommit.getDigest()),
        );
        const status = await commitRequest.getStatus();
        assert.equal(status.code, codes.VALID);
        assert.equal(status.transactionId, unsigned.getTransactionId());

        const question = contract.newProposal('ReadAsset', { arguments: [id] });
        const signed = gateway.newSignedProposal(question.getBytes(), await sign(question.getDigest()));
        assert.equal(JSON.parse(text(await signed.evaluate())).ID, id);
    });

    test('works for each kind of events', async () => {
        const { gateway, sign } = offline();
        const channel = gateway.getNetwork(network.connection.channel);
        const done = await commit(network.contract('asset'), 'CreateAsset', ...asset(unique('asset')));
        const startBlock = done.blockNumber;
        const first = async (unsigned, rebuild) => {
            const request = rebuild(unsigned.getBytes(), await sign(unsigned.getDigest()));
            const events = await request.getEvents();
            for await (const event of events) {
                events.close();
                return event;
            }
            return assert.fail('no event');
        };
        const event = await first(channel.newChaincodeEventsRequest('asset', { startBlock }), (bytes, signature) =>
            gateway.newSignedChaincodeEventsRequest(bytes, signature),
        );
        assert.equal(event.transactionId, done.transactionId);
        const block = await first(channel.newBlockEventsRequest({ startBlock }), (bytes, signature) =>
            gateway.newSignedBlockEventsRequest(bytes, signature),
        );
        assert.equal(BigInt(block.getHeader().getNumber()), startBlock);
        const filtered = await first(channel.newFilteredBlockEventsRequest({ startBlock }), (bytes, signature) =>
            gateway.newSignedFilteredBlockEventsRequest(bytes, signature),
        );
        assert.equal(BigInt(filtered.getNumber()), startBlock);
        const full = await first(channel.newBlockAndPrivateDataEventsRequest({ startBlock }), (bytes, signature) =>
            gateway.newSignedBlockAndPrivateDataEventsRequest(bytes, signature),
        );
        assert.equal(BigInt(full.getBlock().getHeader().getNumber()), startBlock);
    });

    test('with a signature over something else is refused at each step', async () => {
        const { gateway, sign } = offline();
        const channel = gateway.getNetwork(network.connection.channel);
        const contract = channel.getContract('asset');
        const wrong = await sign(Buffer.alloc(32, 7));
        const ours = await sign(contract.newProposal('AssetExists').getDigest());
        assert.notDeepEqual(wrong, ours);

        const unsigned = contract.newProposal('Put', { arguments: [unique('k'), 'v'] });
        await assert.rejects(gateway.newSignedProposal(unsigned.getBytes(), wrong).endorse(), { code: grpc.status.ABORTED });
        await assert.rejects(gateway.newSignedProposal(unsigned.getBytes(), wrong).evaluate(), { code: grpc.status.FAILED_PRECONDITION });

        const proposal = gateway.newSignedProposal(unsigned.getBytes(), await sign(unsigned.getDigest()));
        const transaction = await proposal.endorse();
        const refused = await failure(gateway.newSignedTransaction(transaction.getBytes(), wrong).submit());
        assert.equal(refused.name, 'SubmitError');
        assert.equal(refused.code, grpc.status.ABORTED);
        assert.match(refused.message, /FORBIDDEN/);

        const signed = gateway.newSignedTransaction(
            transaction.getBytes(),
            await sign(transaction.getDigest()),
        );
        const commitRequest = await signed.submit();
        await assert.rejects(gateway.newSignedCommit(commitRequest.getBytes(), wrong).getStatus(), { code: grpc.status.PERMISSION_DENIED });

        const request = channel.newChaincodeEventsRequest('asset', { startBlock: 0n });
        const events = await gateway.newSignedChaincodeEventsRequest(request.getBytes(), wrong).getEvents();
        await assert.rejects(events[Symbol.asyncIterator]().next(), { code: grpc.status.PERMISSION_DENIED });
    });
});
