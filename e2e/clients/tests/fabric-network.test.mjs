// SPDX-License-Identifier: Apache-2.0
// The older client, fabric-network 2.2, unmodified: it asks Discovery whom to ask, sends
// proposals to peers and transactions to orderers itself, and waits for blocks.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import fabricNetwork from 'fabric-network';
import { Network, failure, unique, until } from '../lib/network.mjs';

const { DefaultEventHandlerStrategies, DefaultQueryHandlerStrategies, Gateway } = fabricNetwork;
const network = new Network();
const channelName = network.connection.channel;
const pem = (file) => ({ pem: fs.readFileSync(file, 'utf8') });

/** A connection profile: the peers of one organization to begin with. */
function profile(mspId) {
    const org = network.org(mspId);
    const peers = Object.fromEntries(
        org.peers.map((address) => [
            address,
            { url: `grpcs://${address}`, tlsCACerts: pem(org.tlsCaCert) },
        ]),
    );
    return {
        name: 'clients',
        version: '1.0.0',
        client: { organization: mspId },
        organizations: { [mspId]: { mspid: mspId, peers: Object.keys(peers) } },
        peers,
    };
}

/** What a client without discovery must be told. */
function fullProfile() {
    const [first, second] = [profile('Org1MSP'), profile('Org2MSP')];
    const orderers = Object.fromEntries(
        network.connection.orderers.map(({ address, tlsCaCert }) => [
            address,
            { url: `grpcs://${address}`, tlsCACerts: pem(tlsCaCert) },
        ]),
    );
    const peers = { ...first.peers, ...second.peers };
    return {
        ...first,
        organizations: { ...first.organizations, ...second.organizations },
        orderers,
        peers,
        channels: {
            [channelName]: {
                orderers: Object.keys(orderers),
                peers: Object.fromEntries(Object.keys(peers).map((name) => [name, {}])),
            },
        },
    };
}

function identity(mspId) {
    const { cert, key } = network.org(mspId).user;
    return {
        type: 'X.509',
        mspId,
        credentials: {
            certificate: fs.readFileSync(cert, 'utf8'),
            privateKey: fs.readFileSync(key, 'utf8'),
        },
    };
}

const gateways = [];

async function connect(mspId, options = {}, connectionProfile = profile(mspId)) {
    const gateway = new Gateway();
    gateways.push(gateway);
    await gateway.connect(connectionProfile, {
        identity: identity(mspId),
        discovery: { enabled: true, asLocalhost: true },
        eventHandlerOptions: { commitTimeout: 30, endorseTimeout: 30 },
        ...options,
    });
    return gateway.getNetwork(channelName);
}

after(() => gateways.forEach((gateway) => gateway.disconnect()));

const asset = (id) => [id, 'blue', '5', 'ada', '300'];

describe('with discovery', () => {
    let channel;

    before(async () => {
        channel = await connect('Org1MSP');
    });

    test('finds the peers of both organizations and the orderers', () => {
        const found = channel.getChannel().getEndorsers().map((peer) => peer.endpoint.addr);
        const expected = network.connection.orgs.flatMap((org) => org.peers);
        assert.deepEqual(found.sort(), expected.sort());
        const committers = channel.getChannel().getCommitters().map((orderer) => orderer.endpoint.addr);
        const orderers = network.connection.orderers.map((orderer) => orderer.address);
        assert.deepEqual(committers.sort(), orderers.sort());
    });

    test('submits and evaluates', async () => {
        const contract = channel.getContract('asset');
        const id = unique('asset');
        const made = JSON.parse(await contract.submitTransaction('CreateAsset', ...asset(id)));
        assert.equal(made.ID, id);
        const read = JSON.parse(await contract.evaluateTransaction('ReadAsset', id));
        assert.deepEqual(read, made);
    });

    test('collects the endorsements that a policy of both organizations wants', async () => {
        const contract = channel.getContract('pair');
        const id = unique('pair');
        await contract.submitTransaction('CreateAsset', ...asset(id));
        assert.equal(JSON.parse(await contract.evaluateTransaction('ReadAsset', id)).ID, id);
    });

    test('reaches contracts on Node and Python', async () => {
        for (const name of ['nodejs', 'python']) {
            const contract = channel.getContract(name);
            const key = unique('key');
            await contract.submitTransaction('put', key, 'v');
            assert.equal((await contract.evaluateTransaction('get', key)).toString(), 'v');
        }
    });

    test('works for the other organization too', async () => {
        const other = await connect('Org2MSP');
        const key = unique('key');
        await other.getContract('nodejs').submitTransaction('put', key, 'v');
        const told = JSON.parse(await other.getContract('nodejs').evaluateTransaction('whoami'));
        assert.equal(told.mspId, 'Org2MSP');
    });

    test('asks the organizations that the client names', async () => {
        const contract = channel.getContract('asset');
        const transaction = contract.createTransaction('CreateAsset');
        transaction.setEndorsingOrganizations('Org2MSP');
        const id = unique('asset');
        await transaction.submit(...asset(id));
        assert.equal((await contract.evaluateTransaction('AssetExists', id)).toString(), 'true');
    });

    test('carries transient data', async () => {
        const transaction = channel.getContract('nodejs').createTransaction('secret');
        const secret = unique('secret');
        transaction.setTransient({ secret: Buffer.from(secret) });
        assert.equal((await transaction.evaluate()).toString(), secret);
    });

    test('writes private values that members read and others do not', async () => {
        for (const collection of ['shared', 'open']) {
            const contract = channel.getContract('private');
            contract.addDiscoveryInterest({ name: 'private', collectionNames: [collection] });
            const [key, value] = [unique('key'), unique('value')];
            const transaction = contract.createTransaction('put');
            transaction.setTransient({ value: Buffer.from(value) });
            await transaction.submit(collection, key);
            const read = async (by) =>
                (await by.getContract('private').evaluateTransaction('get', collection, key)).toString();
            await until(`${collection}/${key}`, async () => (await read(channel)) === value);
            const other = await connect('Org2MSP');
            if (collection === 'shared') {
                await until(`${collection}/${key} at Org2MSP`, async () => (await read(other)) === value);
            } else {
                const why = async () => (await failure(read(other))).message;
                const refused = /private data matching public hash version is not available/;
                await until(`the hash of ${key} at Org2MSP`, async () => refused.test(await why()));
            }
        }
    });

    test('tells what the contract said when it failed', async () => {
        const contract = channel.getContract('asset');
        const missing = unique('missing');
        const queried = await failure(contract.evaluateTransaction('ReadAsset', missing));
        assert.match(queried.message, new RegExp(`${missing} does not exist`));
        const submitted = await failure(contract.submitTransaction('TransferAsset', missing, 'bert'));
        assert.match(submitted.message, new RegExp(`${missing} does not exist`));
    });

    test('tells of a transaction that commits invalid', async () => {
        const contract = channel.getContract('pair');
        const transaction = contract.createTransaction('CreateAsset');
        const org1 = channel.getChannel().getEndorsers('Org1MSP').slice(0, 1);
        transaction.setEndorsingPeers(org1);
        const error = await failure(transaction.submit(...asset(unique('pair'))));
        assert.match(error.message, /ENDORSEMENT_POLICY_FAILURE/);
    });

    test('waits for every peer of the network when asked to', async () => {
        const strategy = DefaultEventHandlerStrategies.NETWORK_SCOPE_ALLFORTX;
        const careful = await connect('Org1MSP', {
            eventHandlerOptions: { strategy, commitTimeout: 30 },
            queryHandlerOptions: { strategy: DefaultQueryHandlerStrategies.MSPID_SCOPE_ROUND_ROBIN },
        });
        const contract = careful.getContract('asset');
        const id = unique('asset');
        await contract.submitTransaction('CreateAsset', ...asset(id));
        // Each of the organization's two peers answers in its turn.
        for (let turn = 0; turn < 2; turn += 1) {
            assert.equal((await contract.evaluateTransaction('AssetExists', id)).toString(), 'true');
        }
    });
});

describe('events', () => {
    let channel;

    before(async () => {
        channel = await connect('Org1MSP');
    });

    test('of a contract reach a listener', async () => {
        const contract = channel.getContract('nodejs');
        const name = unique('event');
        const seen = [];
        const listener = await contract.addContractListener(async (event) => {
            if (event.eventName === name) {
                seen.push(event);
            }
        });
        try {
            const transaction = contract.createTransaction('announce');
            await transaction.submit(name, 'payload');
            await until('the event', () => seen.length > 0);
            assert.equal(seen[0].payload.toString(), 'payload');
            assert.equal(seen[0].chaincodeId, 'nodejs');
            assert.equal(seen[0].getTransactionEvent().transactionId, transaction.getTransactionId());
            assert.equal(seen[0].getTransactionEvent().isValid, true);
        } finally {
            contract.removeContractListener(listener);
        }
    });

    for (const type of ['filtered', 'full', 'private']) {
        test(`of blocks reach a listener: ${type}`, async () => {
            const numbers = [];
            const transactions = [];
            const listener = await channel.addBlockListener(
                async (event) => {
                    numbers.push(event.blockNumber.toNumber());
                    transactions.push(...event.getTransactionEvents().map((one) => one.transactionId));
                },
                { startBlock: 0, type },
            );
            try {
                const transaction = channel.getContract('asset').createTransaction('Put');
                await transaction.submit(unique('key'), 'v');
                await until('the block', () => transactions.includes(transaction.getTransactionId()));
                assert.deepEqual(numbers, numbers.map((_, i) => i));
            } finally {
                channel.removeBlockListener(listener);
            }
        });
    }
});

test('without discovery, told of every node, submits and evaluates', async () => {
    const options = { discovery: { enabled: false } };
    const channel = await connect('Org1MSP', options, fullProfile());
    const contract = channel.getContract('pair');
    const id = unique('pair');
    await contract.submitTransaction('CreateAsset', ...asset(id));
    assert.equal(JSON.parse(await contract.evaluateTransaction('ReadAsset', id)).ID, id);
});

test('with a TLS certificate of its own organization, submits and evaluates', async () => {
    // Without one, as everywhere above, fabric-network makes and shows one that nobody has signed.
    const folder = path.join(network.dir, 'org1/users/user1/tls');
    const read = (name) => fs.readFileSync(path.join(folder, name), 'utf8');
    const tlsInfo = { certificate: read('client.crt'), key: read('client.key') };
    const contract = (await connect('Org1MSP', { tlsInfo })).getContract('asset');
    const id = unique('asset');
    await contract.submitTransaction('CreateAsset', ...asset(id));
    assert.equal(JSON.parse(await contract.evaluateTransaction('ReadAsset', id)).ID, id);
});

test('an identity of another authority is refused by discovery', async () => {
    const own = identity('Org1MSP');
    const gateway = new Gateway();
    gateways.push(gateway);
    await gateway.connect(profile('Org1MSP'), {
        identity: { ...own, mspId: 'Org2MSP' },
        discovery: { enabled: true, asLocalhost: true },
    });
    const error = await failure(gateway.getNetwork(channelName));
    assert.match(error.message, /access denied|DiscoveryService/i);
});
