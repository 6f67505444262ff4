// SPDX-License-Identifier: Apache-2.0
// A contract on the unmodified fabric-contract-api and fabric-shim, as a service that peers dial.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contractSuite } from '../lib/contract-suite.mjs';
import { Network, query } from '../lib/network.mjs';

const network = new Network();

contractSuite(network, 'nodejs');

test('nodejs: is reached by its name as well', async () => {
    const contract = network.channel().getContract('nodejs', 'keyvalue');
    assert.equal(JSON.parse(await query(contract, 'whoami')).mspId, 'Org1MSP');
});
