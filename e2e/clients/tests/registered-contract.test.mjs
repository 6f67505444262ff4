// SPDX-License-Identifier: Apache-2.0
// The same contract as a program that dials the peers (`Register`), one for each peer.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { contractSuite } from '../lib/contract-suite.mjs';
import { Network, failure, query, until } from '../lib/network.mjs';
import { Registered } from '../lib/registered.mjs';

const network = new Network();
const name = 'registered';
/** Peers: their organization's folder, and the gateway options that lead to them. */
const peers = [
    { node: 'peer0.org1', org: 'org1', mspId: 'Org1MSP', peer: 0 },
    { node: 'peer1.org1', org: 'org1', mspId: 'Org1MSP', peer: 1 },
    { node: 'peer0.org2', org: 'org2', mspId: 'Org2MSP', peer: 0 },
];
let registered;

before(async () => {
    const status = await network.status();
    const packageId = status.chaincodes.find((one) => one.name.endsWith(`.${name}`)).packageId;
    assert.match(packageId, /^registered_1\.0:[0-9a-f]{64}$/);
    for (const one of peers) {
        one.address = status.nodes.find((node) => node.name === one.node).chaincodeAddress;
        assert.ok(one.address, `no address for contracts at ${one.node}`);
    }

    // Nothing runs yet: a call says so.
    const error = await failure(query(network.contract(name), 'whoami'));
    assert.ok([grpc.status.ABORTED, grpc.status.UNAVAILABLE].includes(error.code), error.message);

    registered = new Registered(network, packageId);
    for (const one of peers) {
        one.program = registered.start(one.org, one.address);
    }
    for (const one of peers) {
        // What fabric-shim logs when the peer has sent READY.
        await until(`the contract to be taken in by ${one.node}`, () =>
            /Successfully established communication/.test(one.program.output),
        );
    }
});
after(() => registered?.stop());

contractSuite(network, name);

test('registered: one of a package that is not installed is refused', async () => {
    const stranger = new Registered(network, `stranger_1.0:${'ab'.repeat(32)}`);
    const one = stranger.start(peers[0].org, peers[0].address);
    try {
        await until('the peer to refuse it', () => /not accept|PERMISSION_DENIED|no such package/i.test(one.output));
    } finally {
        await stranger.stop();
    }
});

test('registered: a second one is refused while the first is there', async () => {
    const second = new Registered(network, registered.packageId);
    const one = second.start(peers[0].org, peers[0].address);
    try {
        await until('the peer to refuse it', () => /duplicate chaincodeID/.test(one.output));
    } finally {
        await second.stop();
    }
    await query(network.contract(name), 'whoami');
});

test('registered: one that ends is missed, and is taken back', async () => {
    const one = peers[2];
    const contract = network.contract(name, { mspId: one.mspId });
    const call = () =>
        contract.newProposal('whoami', { endorsingOrganizations: [one.mspId] }).endorse();
    await call();
    await registered.end(one.address);
    const error = await failure(call());
    assert.equal(error.code, grpc.status.ABORTED);
    assert.equal(error.details[0].mspId, one.mspId);
    registered.start(one.org, one.address);
    await until('the contract to be taken back', call);
});
