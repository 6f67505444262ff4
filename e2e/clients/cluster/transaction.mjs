// SPDX-License-Identifier: Apache-2.0
// One transaction and one query by the unmodified fabric-gateway client, for the tests on a
// cluster. Everything comes from the environment:
//
// PEER       host:port to dial
// HOST       name that the peer's certificate must hold; that of PEER when absent
// CHANNEL, CHAINCODE, MSP_ID
// IDENTITY   folder with cert.pem, key.pem and tlscacerts.pem, as the user's Secret has them

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { connect, hash, signers } from '@hyperledger/fabric-gateway';

const { PEER, HOST, CHANNEL, CHAINCODE, MSP_ID, IDENTITY } = process.env;
const file = (name) => fs.readFileSync(path.join(IDENTITY, name));
const within = (seconds) => () => ({ deadline: Date.now() + seconds * 1000 });

const options = HOST ? { 'grpc.ssl_target_name_override': HOST } : {};
const credentials = grpc.credentials.createSsl(file('tlscacerts.pem'));
const client = new grpc.Client(PEER, credentials, options);
const gateway = connect({
    client,
    identity: { mspId: MSP_ID, credentials: file('cert.pem') },
    signer: signers.newPrivateKeySigner(crypto.createPrivateKey(file('key.pem'))),
    hash: hash.sha256,
    evaluateOptions: within(20),
    endorseOptions: within(30),
    submitOptions: within(20),
    commitStatusOptions: within(30),
});
try {
    const contract = gateway.getNetwork(CHANNEL).getContract(CHAINCODE);
    const id = `asset-${crypto.randomBytes(6).toString('hex')}`;
    await contract.submitTransaction('CreateAsset', id, 'blue', '5', 'ada', '300');
    const answer = await contract.evaluateTransaction('ReadAsset', id);
    const asset = JSON.parse(Buffer.from(answer).toString());
    assert.equal(asset.Owner, 'ada');
    console.log(`committed ${id}`);
} finally {
    gateway.close();
    client.close();
}
