// SPDX-License-Identifier: Apache-2.0
// The contract on Node as a program that dials a peer (`Register`), by the unmodified command
// line of fabric-shim.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { here } from './weft.mjs';

const cli = path.join(here, 'node_modules/.bin/fabric-chaincode-node');

/** Programs that dial peers; `stop` ends them all. */
export class Registered {
    #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-registered-'));
    #children = new Map();

    /** The network's folder, and the package id under which the contract registers. */
    constructor(network, packageId) {
        this.network = network;
        this.packageId = packageId;
    }

    /** Starts one for the peer at `address`, with the TLS certificate of a user of `org`. */
    start(org, address) {
        const child = spawn(
            process.execPath,
            [
                ...[cli, 'start', '--peer.address', address],
                ...['--chaincode-id-name', this.packageId, '--module-path', 'contracts/node'],
            ],
            { cwd: here, env: { ...process.env, ...this.#tls(org) }, stdio: ['ignore', 'pipe', 'pipe'] },
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

    /** fabric-shim wants a certificate and key of its own, base64 around the PEM. */
    #tls(org) {
        const tls = path.join(this.network.dir, org, 'users/user1/tls');
        const wrapped = (name) => {
            const file = path.join(this.#folder, `${org}-${name}`);
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
