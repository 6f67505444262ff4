// SPDX-License-Identifier: Apache-2.0
// The same contract as a program that dials the peers (`Register`), one for each peer.

import assert from 'node:assert/strict';
import path from 'node:path';
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

    registered = new Registered(network, name, packageId);
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
    const id = `stranger_1.0:${'ab'.repeat(32)}`;
    const stranger = new Registered(network, 'stranger', id);
    const certificate = await stranger.issued(peers[0].org, [id]);
    const one = stranger.start(peers[0].org, peers[0].address, certificate);
    try {
        await until('the peer to refuse it', () => /no such package is installed/.test(one.output));
    } finally {
        await stranger.stop();
    }
});

/** Starts one that poses as the contract, and waits until the peer has refused it. */
async function refused(packageId, tls, reason) {
    const impostor = new Registered(network, name, packageId);
    const one = impostor.start(peers[0].org, peers[0].address, tls);
    try {
        await until('the peer to refuse it', () => reason.test(one.output));
    } finally {
        await impostor.stop();
    }
}

test('registered: one with the certificate of another, or of a user, is refused', async () => {
    const [org, id] = [peers[0].org, registered.packageId];
    const other = await registered.issued(org, [`other_1.0:${'ab'.repeat(32)}`]);
    await refused(id, other, /its TLS client certificate is for other_1\.0/);
    const user = path.join(network.dir, org, 'users/user1/tls');
    await refused(id, user, /must show a TLS client certificate with the URI weft:chaincode/);
});

test('registered: a contract that the peers dial cannot register', async () => {
    const { chaincodes } = await network.status();
    const { packageId } = chaincodes.find((one) => one.name.endsWith('.nodejs'));
    const certificate = await registered.issued(peers[0].org, [packageId]);
    await refused(packageId, certificate, /which the peer dials/);
});

test('registered: a second one is refused while the first is there', async () => {
    const second = new Registered(network, name, registered.packageId);
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
    // With a certificate that somebody else has made.
    const certificate = await registered.issued(one.org, [registered.packageId]);
    registered.start(one.org, one.address, certificate);
    await until('the contract to be taken back', call);
});
