// SPDX-License-Identifier: Apache-2.0
// What the unmodified @hyperledger/fabric-gateway is told when things go wrong.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { EndorseError, GatewayError } from '@hyperledger/fabric-gateway';
import { Network, commit, failure, newIdentity, query, unique } from '../lib/network.mjs';
import { leafExtensions, newLeaf, newRoot } from '../lib/openssl.mjs';

const network = new Network();
const { ABORTED, DEADLINE_EXCEEDED, FAILED_PRECONDITION, PERMISSION_DENIED, UNAVAILABLE, UNKNOWN } =
    grpc.status;

/** Endorses and must fail. */
function refusal(contract, name, options) {
    return failure(contract.newProposal(name, options).endorse());
}

/** Each detail names a peer of its organization, none twice, and the error. */
function checkDetails(error, expected, pattern) {
    for (const detail of error.details) {
        const { peers } = network.org(detail.mspId);
        assert.ok(peers.includes(detail.address), `${detail.address} is no peer of ${detail.mspId}`);
        assert.match(detail.message, pattern);
    }
    const addresses = error.details.map((detail) => detail.address);
    assert.equal(new Set(addresses).size, addresses.length, `an endorser twice: ${addresses}`);
    const organizations = [...new Set(error.details.map((detail) => detail.mspId))];
    assert.deepEqual(organizations.sort(), expected);
}

describe('an error of a contract', () => {
    test('is ABORTED with the details of the endorser', async () => {
        const missing = unique('missing');
        for (const mspId of ['Org1MSP', 'Org2MSP']) {
            const contract = network.contract('asset', { mspId });
            const error = await refusal(contract, 'TransferAsset', { arguments: [missing, 'bert'] });
            assert.ok(error instanceof EndorseError);
            assert.equal(error.code, ABORTED);
            assert.match(error.transactionId, /^[0-9a-f]{64}$/);
            checkDetails(error, [mspId], new RegExp(`${missing} does not exist`));
        }
    });

    test('is ABORTED with the details of every organization that was asked', async () => {
        const missing = unique('missing');
        const error = await refusal(network.contract('asset'), 'TransferAsset', {
            arguments: [missing, 'bert'],
            endorsingOrganizations: ['Org1MSP', 'Org2MSP'],
        });
        assert.equal(error.code, ABORTED);
        checkDetails(error, ['Org1MSP', 'Org2MSP'], new RegExp(`${missing} does not exist`));
    });

    test('on a query is told with the details of the endorser', async () => {
        const missing = unique('missing');
        const error = await failure(query(network.contract('asset'), 'ReadAsset', missing));
        assert.ok(error instanceof GatewayError);
        assert.equal(error.code, UNKNOWN);
        assert.equal(error.details.length, 1);
        checkDetails(error, ['Org1MSP'], new RegExp(`${missing} does not exist`));
        assert.match(error.message, /chaincode response \d+/);
    });

    test('reaches the client from a contract on Node too', async () => {
        const error = await refusal(network.contract('nodejs'), 'fail', { arguments: ['not today'] });
        assert.equal(error.code, ABORTED);
        checkDetails(error, ['Org1MSP'], /not today/);
    });

    test('leaves the contract able to go on', async () => {
        const contract = network.contract('nodejs');
        await failure(query(contract, 'fail', 'once'));
        const key = unique('k');
        await commit(contract, 'put', key, 'v');
        assert.equal(await query(contract, 'get', key), 'v');
    });
});

describe('what is not there', () => {
    test('a function: ABORTED, with details', async () => {
        for (const chaincode of ['asset', 'nodejs', 'python']) {
            const error = await refusal(network.contract(chaincode), 'NoSuchFunction');
            assert.equal(error.code, ABORTED, chaincode);
            checkDetails(error, ['Org1MSP'], /NoSuchFunction/);
        }
    });

    test('a chaincode: FAILED_PRECONDITION, and it is named', async () => {
        const contract = network.contract('nosuchchaincode');
        for (const error of [
            await refusal(contract, 'Put', { arguments: ['k', 'v'] }),
            await failure(query(contract, 'Get', 'k')),
        ]) {
            assert.equal(error.code, FAILED_PRECONDITION);
            assert.match(error.message, /nosuchchaincode/);
        }
    });

    test('a channel: UNAVAILABLE, and it is named', async () => {
        const contract = network.gateway().getNetwork('nosuchchannel').getContract('asset');
        for (const error of [
            await refusal(contract, 'Put', { arguments: ['k', 'v'] }),
            await failure(query(contract, 'Get', 'k')),
        ]) {
            assert.equal(error.code, UNAVAILABLE);
            assert.match(error.message, /nosuchchannel/);
        }
    });

    test('a channel: no events', async () => {
        const channel = network.gateway().getNetwork('nosuchchannel');
        const next = async (events) => (await events)[Symbol.asyncIterator]().next();
        const chaincode = await failure(next(channel.getChaincodeEvents('asset', { startBlock: 0n })));
        assert.ok([PERMISSION_DENIED, grpc.status.NOT_FOUND].includes(chaincode.code), chaincode.message);
        // NOT_FOUND of the Deliver service.
        const block = await failure(next(channel.getBlockEvents({ startBlock: 0n })));
        assert.match(block.message, /status response: 404/);
        const filtered = await failure(next(channel.getFilteredBlockEvents({ startBlock: 0n })));
        assert.match(filtered.message, /status response: 404/);
    });

    test('an endorsing organization: UNAVAILABLE, and it is named', async () => {
        const error = await refusal(network.contract('asset'), 'Put', {
            arguments: ['k', 'v'],
            endorsingOrganizations: ['Org1MSP', 'Org9MSP'],
        });
        assert.equal(error.code, UNAVAILABLE);
        assert.match(error.message, /Org9MSP/);
    });
});

describe('an identity that is refused', () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-stranger-'));
    const strangers = {};

    before(async () => {
        // The right names and roles, by an authority that the channel does not know.
        await newRoot(`${folder}/ca`, '/O=Org1MSP/CN=ca.Org1MSP');
        await newLeaf(`${folder}/ca`, {
            certificate: `${folder}/cert.pem`,
            key: `${folder}/key.pem`,
            subject: '/OU=client/CN=user1@org1',
            extensions: leafExtensions.identity,
        });
        const read = (file) => fs.readFileSync(`${folder}/${file}`);
        strangers['of another authority'] = newIdentity('Org1MSP', read('cert.pem'), read('key.pem'));
        const org1 = network.org('Org1MSP').user;
        const own = [fs.readFileSync(org1.cert), fs.readFileSync(org1.key)];
        strangers['under another organization'] = newIdentity('Org2MSP', ...own);
        strangers['of an unknown organization'] = newIdentity('Org9MSP', ...own);
        // A certificate that all trust, with a key that is not its own.
        strangers['with another key'] = newIdentity('Org1MSP', own[0], read('key.pem'));
    });
    after(() => fs.rmSync(folder, { recursive: true }));

    for (const name of [
        'of another authority',
        'under another organization',
        'of an unknown organization',
        'with another key',
    ]) {
        test(`${name}: cannot transact, query or listen`, async () => {
            const channel = network.channel(strangers[name]);
            const contract = channel.getContract('asset');
            const endorsing = await refusal(contract, 'Put', { arguments: [unique('k'), 'v'] });
            assert.equal(endorsing.code, ABORTED, endorsing.message);
            assert.ok(endorsing.details.length > 0);
            const evaluating = await failure(query(contract, 'Get', 'k'));
            assert.equal(evaluating.code, FAILED_PRECONDITION, evaluating.message);

            const next = async (events) => (await events)[Symbol.asyncIterator]().next();
            const chaincode = await failure(next(channel.getChaincodeEvents('asset', { startBlock: 0n })));
            assert.equal(chaincode.code, PERMISSION_DENIED, chaincode.message);
            for (const events of [
                channel.getBlockEvents({ startBlock: 0n }),
                channel.getFilteredBlockEvents({ startBlock: 0n }),
                channel.getBlockAndPrivateDataEvents({ startBlock: 0n }),
            ]) {
                assert.match((await failure(next(events))).message, /status response: 403/);
            }
        });
    }

    test('cannot connect where the server is another than it trusts', async () => {
        const { peers } = network.org('Org1MSP');
        const roots = fs.readFileSync(`${folder}/ca/ca.pem`);
        const client = new grpc.Client(peers[0], grpc.credentials.createSsl(roots));
        const channel = network.channel({ client });
        const error = await failure(query(channel.getContract('asset'), 'Get', 'k'));
        assert.equal(error.code, UNAVAILABLE);
        assert.match(error.message, /certificate/);
        client.close();
    });
});

describe('time', () => {
    test("a client's own deadline ends its call", async () => {
        const contract = network.contract('nodejs');
        const deadline = () => ({ deadline: Date.now() + 300 });
        const proposal = contract.newProposal('sleep', { arguments: ['5000'] });
        assert.equal((await failure(proposal.evaluate(deadline()))).code, DEADLINE_EXCEEDED);
        assert.equal((await failure(proposal.endorse(deadline()))).code, DEADLINE_EXCEEDED);
        // The contract still serves others.
        await query(contract, 'whoami');
    });

    test('a contract that does not answer in time fails the endorsement', async () => {
        const error = await refusal(network.contract('nodejs'), 'sleep', {
            arguments: ['60000'],
            endorsingOrganizations: ['Org2MSP'],
        });
        assert.equal(error.code, ABORTED);
        checkDetails(error, ['Org2MSP'], /timeout|timed out/i);
    });

    test('the status of a transaction that never comes is waited for until the deadline', async () => {
        const { identity, signer } = network.identity('Org1MSP');
        const gateway = network.gateway({ identity, signer });
        const contract = gateway.getNetwork(network.connection.channel).getContract('asset');
        const transaction = await contract
            .newProposal('Put', { arguments: [unique('k'), 'v'] })
            .endorse();
        // Made by submitting, so that the request is the client's own, then asked for another.
        const submitted = await transaction.submit();
        assert.equal((await submitted.getStatus()).code, 0);
        const never = await neverSubmitted(gateway, submitted.getBytes());
        const error = await failure(never.getStatus({ deadline: Date.now() + 700 }));
        assert.equal(error.code, DEADLINE_EXCEEDED);
        assert.equal(error.name, 'CommitStatusError');
    });
});

/** A request for the status of a transaction that was never sent. */
async function neverSubmitted(gateway, commitBytes) {
    const { gateway: messages } = await import('@hyperledger/fabric-protos');
    const signed = messages.SignedCommitStatusRequest.deserializeBinary(commitBytes);
    const request = messages.CommitStatusRequest.deserializeBinary(signed.getRequest_asU8());
    request.setTransactionId('ab'.repeat(32));
    signed.setRequest(request.serializeBinary());
    signed.setSignature('');
    return gateway.newCommit(signed.serializeBinary());
}
