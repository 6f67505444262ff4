// SPDX-License-Identifier: Apache-2.0
// The contract on Node as a program that dials a peer (`Register`), by the unmodified command
// line of fabric-shim.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { leafExtensions, newLeaf } from './openssl.mjs';
import { here } from './weft.mjs';

const cli = path.join(here, 'node_modules/.bin/fabric-chaincode-node');

/** Programs that dial peers; `stop` ends them all. */
export class Registered {
    #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-registered-'));
    #children = new Map();

    /** The network, the contract's name, and the package id under which it registers. */
    constructor(network, name, packageId) {
        this.network = network;
        this.name = name;
        this.packageId = packageId;
    }

    /** Starts one for the peer at `address`, with the TLS material of `tls`, or what `weft up` has made. */
    start(org, address, tls = this.made(org)) {
        const child = spawn(
            process.execPath,
            [
                ...[cli, 'start', '--peer.address', address],
                ...['--chaincode-id-name', this.packageId, '--module-path', 'contracts/node'],
            ],
            { cwd: here, env: { ...process.env, ...this.#environment(org, tls) }, stdio: ['ignore', 'pipe', 'pipe'] },
        );
        const one = { child, output: '', exited: new Promise((done) => child.once('exit', done)) };
        child.stdout.on('data', (data) => (one.output += data));
        child.stderr.on('data', (data) => (one.output += data));
        this.#children.set(address, one);
        return one;
    }

    /** Ends the one at `address`. */
    async end(address) {
        const one = this.#children.get(address);
        this.#children.delete(address);
        one.child.kill();
        await one.exited;
    }

    /** Ends all. */
    async stop() {
        await Promise.all([...this.#children.keys()].map((address) => this.end(address)));
        fs.rmSync(this.#folder, { recursive: true });
    }

    /** The folder with the certificate of the contract that `weft up` has made for `org`. */
    made(org) {
        return path.join(this.network.dir, org, 'contracts', `clients.${this.name}`);
    }

    /** A folder with a certificate that openssl makes, for the packages of these ids. */
    async issued(org, ids) {
        const folder = fs.mkdtempSync(path.join(this.#folder, 'issued-'));
        await newLeaf(path.join(this.network.dir, org, 'tlsca'), {
            certificate: path.join(folder, 'client.crt'),
            key: path.join(folder, 'client.key'),
            subject: `/CN=${this.name}`,
            extensions: leafExtensions.tls(ids.map((id) => `URI:weft:chaincode:${id}`)),
        });
        return folder;
    }

    /** fabric-shim wants certificate and key in base64 around the PEM. */
    #environment(org, tls) {
        const wrapped = (name) => {
            const beside = path.join(tls, `${name}.base64`);
            if (fs.existsSync(beside)) {
                return beside;
            }
            const file = path.join(fs.mkdtempSync(path.join(this.#folder, 'wrapped-')), name);
            fs.writeFileSync(file, fs.readFileSync(path.join(tls, name)).toString('base64'));
            return file;
        };
        return {
            CORE_PEER_TLS_ENABLED: 'true',
            CORE_PEER_TLS_ROOTCERT_FILE: path.join(this.network.dir, org, 'tlsca/ca.pem'),
            CORE_TLS_CLIENT_CERT_PATH: wrapped('client.crt'),
            CORE_TLS_CLIENT_KEY_PATH: wrapped('client.key'),
        };
    }
}
