// SPDX-License-Identifier: Apache-2.0
// A network whose authorities, nodes and users have keys and certificates made with nothing but
// the `openssl` command line, laid out as MSP and TLS folders by hand.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Network, commit, query, take, unique } from '../lib/network.mjs';
import { leafExtensions, newLeaf, newRoot, openssl } from '../lib/openssl.mjs';
import { endorsersOf, openIdentity } from '../lib/transactions.mjs';
import { SIGNATURES, metadata } from '../lib/blocks.mjs';
import { here, logTails, weft } from '../lib/weft.mjs';
import { common } from '@hyperledger/fabric-protos';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-openssl-'));
const ours = new Network();
/** Every certificate and key that openssl made, by path, with its contents. */
const made = new Map();

/** The roles by organizational unit, as Fabric's config.yaml has them. */
const roles = `NodeOUs:
  Enable: true
${['Client', 'Peer', 'Admin', 'Orderer']
    .map(
        (role) => `  ${role}OUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: ${role.toLowerCase()}
`,
    )
    .join('')}`;

/** An organization's two roots. */
async function makeOrganization(organization, mspId) {
    for (const root of ['ca', 'tlsca']) {
        await newRoot(path.join(dir, organization, root), `/O=${mspId}/CN=${root}.${mspId}`);
    }
}

/** Someone of an organization: an MSP folder and a TLS folder. */
async function makeHolder(organization, holder, { role, commonName, hosts }) {
    const folder = path.join(dir, organization, holder);
    const subject = `/OU=${role}/CN=${commonName}`;
    const [ca, tlsca] = ['ca', 'tlsca'].map((root) => path.join(dir, organization, root));
    const tls = hosts.length > 0 ? 'server' : 'client';
    fs.mkdirSync(`${folder}/msp/keystore`, { recursive: true });
    fs.mkdirSync(`${folder}/tls`, { recursive: true });
    await newLeaf(ca, {
        certificate: `${folder}/msp/signcerts/cert.pem`,
        key: `${folder}/msp/keystore/key.pem`,
        subject,
        extensions: leafExtensions.identity,
    });
    await newLeaf(tlsca, {
        certificate: `${folder}/tls/${tls}.crt`,
        key: `${folder}/tls/${tls}.key`,
        subject,
        extensions: leafExtensions.tls(hosts),
    });
    for (const [from, to] of [
        [`${ca}/ca.pem`, 'msp/cacerts/ca.pem'],
        [`${tlsca}/ca.pem`, 'msp/tlscacerts/ca.pem'],
        [`${tlsca}/ca.pem`, 'tls/ca.crt'],
    ]) {
        fs.mkdirSync(path.dirname(`${folder}/${to}`), { recursive: true });
        fs.copyFileSync(from, `${folder}/${to}`);
    }
    fs.writeFileSync(`${folder}/msp/config.yaml`, roles);
}

function node(organization, name, role) {
    const hosts = ['DNS:localhost', `DNS:${name}`, 'IP:127.0.0.1'];
    return makeHolder(organization, `nodes/${name}`, { role, commonName: name, hosts });
}

function user(organization, name, role) {
    const commonName = `${name}@${organization}`;
    return makeHolder(organization, `users/${name}`, { role, commonName, hosts: [] });
}

before(async () => {
    await makeOrganization('ordering', 'OrdererMSP');
    await node('ordering', 'orderer0', 'orderer');
    await user('ordering', 'admin', 'admin');
    for (const [organization, mspId] of [['org1', 'Org1MSP'], ['org2', 'Org2MSP']]) {
        await makeOrganization(organization, mspId);
        await node(organization, `peer0.${organization}`, 'peer');
        await user(organization, 'admin', 'admin');
        await user(organization, 'user1', 'client');
    }
    for (const name of fs.readdirSync(dir, { recursive: true })) {
        if (/\.(pem|crt|key)$/.test(name)) {
            made.set(name, fs.readFileSync(path.join(dir, name), 'utf8'));
        }
    }
    try {
        const file = path.join(here, 'openssl.yaml');
        await weft(['up', '-f', file, '--dir', dir, '--detach'], { limit: 90_000 });
    } catch (error) {
        error.message += `\n${logTails(dir)}`;
        throw error;
    }
});

after(async () => {
    await weft(['down', '--dir', dir, '--delete'], { limit: 60_000 });
    fs.rmSync(dir, { recursive: true, force: true });
});

describe('a network of certificates by openssl', () => {
    test('comes up with them as they are', () => {
        assert.ok(made.size > 50, `${made.size} files`);
        for (const [name, contents] of made) {
            assert.equal(fs.readFileSync(path.join(dir, name), 'utf8'), contents, name);
        }
    });

    test('takes transactions, endorses, orders and commits them', async () => {
        const network = new Network(dir);
        const contract = network.contract('asset');
        const id = unique('asset');
        const transaction = await contract
            .newProposal('CreateAsset', { arguments: [id, 'blue', '5', 'ada', '300'] })
            .endorse();
        const holder = (name) => fs.readFileSync(path.join(dir, name, 'msp/signcerts/cert.pem'));
        const endorsers = endorsersOf(transaction.getBytes());
        endorsers.sort((a, b) => a.mspId.localeCompare(b.mspId));
        assert.deepEqual(
            endorsers.map(({ pem }) => fingerprint(pem)),
            ['org1/nodes/peer0.org1', 'org2/nodes/peer0.org2'].map((name) => fingerprint(holder(name))),
        );
        const status = await (await transaction.submit()).getStatus();
        assert.equal(status.code, 0);
        assert.equal(JSON.parse(await query(contract, 'ReadAsset', id)).ID, id);

        const events = await network.channel().getBlockEvents({ startBlock: status.blockNumber });
        const [block] = await take(events, () => true);
        const [signature] = metadata(block, SIGNATURES).getSignaturesList();
        const header = common.SignatureHeader.deserializeBinary(signature.getSignatureHeader_asU8());
        const { pem } = openIdentity(header.getCreator_asU8());
        assert.equal(fingerprint(pem), fingerprint(holder('ordering/nodes/orderer0')));
    });

    test('serves TLS with them', async () => {
        const network = new Network(dir);
        for (const [organization, { peers }] of network.connection.orgs.entries()) {
            const name = `org${organization + 1}`;
            const roots = path.join(dir, name, 'tlsca/ca.pem');
            const output = await openssl(
                ...['s_client', '-connect', peers[0], '-CAfile', roots, '-verify_return_error'],
                ...['-verify_hostname', `peer0.${name}`, '-alpn', 'h2', '-brief'],
            );
            assert.equal(typeof output, 'string');
        }
    });

    test('takes both organizations\' administrators and users', async () => {
        const network = new Network(dir);
        for (const mspId of ['Org1MSP', 'Org2MSP']) {
            for (const who of ['user', 'admin']) {
                const contract = network.contract('asset', { mspId, ...network.identity(mspId, who) });
                await commit(contract, 'Put', unique('key'), who);
            }
        }
    });
});

function fingerprint(pem) {
    return new crypto.X509Certificate(pem).fingerprint256;
}

describe('certificates and keys of weft read in openssl as openssl\'s own', () => {
    /** Files that stand at the same place in both networks. */
    const certificates = [
        'ordering/ca/ca.pem',
        'ordering/nodes/orderer0/msp/signcerts/cert.pem',
        'org1/ca/ca.pem',
        'org1/tlsca/ca.pem',
        'org1/nodes/peer0.org1/msp/signcerts/cert.pem',
        'org1/nodes/peer0.org1/tls/server.crt',
        'org1/users/user1/msp/signcerts/cert.pem',
        'org1/users/user1/tls/client.crt',
        'org1/users/admin/msp/signcerts/cert.pem',
    ];
    const keys = [
        'org1/ca/key.pem',
        'org1/nodes/peer0.org1/msp/keystore/key.pem',
        'org1/nodes/peer0.org1/tls/server.key',
        'org1/users/user1/msp/keystore/key.pem',
    ];

    for (const file of certificates) {
        test(`x509 -text: ${file}`, async () => {
            const read = async (folder) =>
                comparable(await openssl('x509', '-in', path.join(folder, file), '-noout', '-text'));
            assert.deepEqual(await read(ours.dir), await read(dir));
        });

        test(`verify: ${file}`, async () => {
            const root = file.includes('tls') ? 'tlsca' : 'ca';
            const roots = path.join(ours.dir, file.split('/')[0], root, 'ca.pem');
            const answer = await openssl(
                ...['verify', '-x509_strict', '-check_ss_sig', '-CAfile', roots],
                path.join(ours.dir, file),
            );
            assert.match(answer, /: OK$/m);
        });
    }

    for (const file of keys) {
        test(`ec -text: ${file}`, async () => {
            const read = async (folder) => {
                const key = path.join(folder, file);
                assert.match(fs.readFileSync(key, 'utf8'), /^-----BEGIN PRIVATE KEY-----\n/);
                return comparable(await openssl('ec', '-in', key, '-noout', '-text'));
            };
            assert.deepEqual(await read(ours.dir), await read(dir));
        });

        test(`the key is its certificate's: ${file}`, async () => {
            const certificate = {
                'ca/key.pem': 'ca/ca.pem',
                'keystore/key.pem': 'signcerts/cert.pem',
                'server.key': 'server.crt',
            };
            const [from, to] = Object.entries(certificate).find(([from]) => file.endsWith(from));
            const pair = path.join(ours.dir, file.replace(from, to));
            const ofKey = await openssl('pkey', '-in', path.join(ours.dir, file), '-pubout');
            assert.equal(ofKey, await openssl('x509', '-in', pair, '-noout', '-pubkey'));
        });
    }

    test('a request by openssl with a key of weft verifies', async () => {
        const key = path.join(ours.dir, 'org1/users/user1/msp/keystore/key.pem');
        const request = path.join(dir, 'user1.csr');
        await openssl('req', '-new', '-key', key, '-subj', '/OU=client/CN=user1@org1', '-out', request);
        await openssl('req', '-in', request, '-verify', '-noout');
    });
});

/**
 * The text without what must differ (serial number, dates, keys, their identifiers, signatures),
 * and with the extensions sorted, as their order says nothing.
 */
function comparable(text) {
    const kept = text
        .split('\n')
        .map((line) => line.trimEnd().replace(/(Not Before|Not After ?): .*/, '$1: …'))
        .filter((line) => !/^\s*([0-9A-F]{2}:)*[0-9A-F]{2}:?$/i.test(line));
    const title = kept.findIndex((line) => line.endsWith('X509v3 extensions:'));
    const end = kept.findLastIndex((line) => line.startsWith('    Signature Algorithm'));
    if (title < 0) {
        return kept;
    }
    const extensions = [];
    for (const line of kept.slice(title + 1, end)) {
        if (/^ {12}\S/.test(line)) {
            extensions.push([line]);
        } else {
            extensions.at(-1).push(line);
        }
    }
    extensions.sort(([a], [b]) => (a < b ? -1 : 1));
    return [...kept.slice(0, title + 1), ...extensions.flat(), ...kept.slice(end)];
}
