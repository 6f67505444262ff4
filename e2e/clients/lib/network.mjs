// SPDX-License-Identifier: Apache-2.0
// A running network, and connections to it by the unmodified fabric-gateway client.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { connect, hash, signers } from '@hyperledger/fabric-gateway';
import { weft } from './weft.mjs';

const seconds = (count) => () => ({ deadline: Date.now() + count * 1000 });

/** A text that no other call gives. */
export function unique(prefix) {
    return `${prefix}-${crypto.randomBytes(5).toString('hex')}`;
}

/** A network that `weft up` brought up in `dir`. */
export class Network {
    #opened = [];

    constructor(dir = process.env.WEFT_NETWORK) {
        assert.ok(dir, 'WEFT_NETWORK names no network: run the suites with `make test` or run.mjs');
        this.dir = dir;
        this.connection = JSON.parse(fs.readFileSync(path.join(dir, 'connection.json'), 'utf8'));
        after(() => this.close());
    }

    /** What connection.json says of an organization. */
    org(mspId) {
        const found = this.connection.orgs.find((org) => org.mspId === mspId);
        assert.ok(found, `no organization ${mspId} in connection.json`);
        return found;
    }

    /** The identity and signer of an organization's user, or of its administrator. */
    identity(mspId, who = 'user') {
        const { cert, key } = this.org(mspId)[who];
        return newIdentity(mspId, fs.readFileSync(cert), fs.readFileSync(key));
    }

    /** A gRPC client of a peer. */
    client(mspId = 'Org1MSP', peer = 0) {
        const org = this.org(mspId);
        const roots = fs.readFileSync(org.tlsCaCert);
        const credentials = grpc.credentials.createSsl(roots);
        const client = new grpc.Client(org.peers[peer], credentials);
        this.#opened.push(client);
        return client;
    }

    /**
     * A gateway at a peer of `mspId`, in the name of its user unless told otherwise. Every
     * call has a deadline, so that a node that does not answer fails a test.
     */
    gateway({ mspId = 'Org1MSP', peer = 0, ...options } = {}) {
        const gateway = connect({
            client: this.client(mspId, peer),
            ...this.identity(mspId),
            hash: hash.sha256,
            evaluateOptions: seconds(20),
            endorseOptions: seconds(30),
            submitOptions: seconds(20),
            commitStatusOptions: seconds(30),
            chaincodeEventsOptions: seconds(60),
            blockEventsOptions: seconds(60),
            filteredBlockEventsOptions: seconds(60),
            blockAndPrivateDataEventsOptions: seconds(60),
            ...options,
        });
        this.#opened.push(gateway);
        return gateway;
    }

    /** The channel, by a gateway made of the same options. */
    channel(options) {
        return this.gateway(options).getNetwork(this.connection.channel);
    }

    /** A contract of the channel, by a gateway made of the same options. */
    contract(name, options) {
        return this.channel(options).getContract(name);
    }

    /** What `weft status` says. */
    async status() {
        return JSON.parse(await weft(['status', '-o', 'json', '--dir', this.dir]));
    }

    /** Ends every connection. */
    close() {
        for (const one of this.#opened.splice(0).reverse()) {
            one.close();
        }
    }
}

/** An identity and its signer, from PEM. */
export function newIdentity(mspId, certificate, key) {
    return {
        identity: { mspId, credentials: certificate },
        signer: signers.newPrivateKeySigner(crypto.createPrivateKey(key)),
    };
}

/** Submits and waits for the commit; gives the result, and the block's number and code. */
export async function submit(contract, name, options = {}) {
    const submitted = await contract.submitAsync(name, options).catch(told);
    const status = await submitted.getStatus();
    return {
        result: text(submitted.getResult()),
        transactionId: submitted.getTransactionId(),
        blockNumber: status.blockNumber,
        code: status.code,
    };
}

/** Submits a transaction that must commit valid. */
export async function commit(contract, name, ...args) {
    const done = await submit(contract, name, { arguments: args });
    assert.equal(done.code, 0, `${name} committed with validation code ${done.code}`);
    return done;
}

/** An error with the details of each endorser in its message, for whoever reads the report. */
function told(error) {
    for (const { address, message } of error.details ?? []) {
        error.message += `\n  ${address}: ${message}`;
    }
    throw error;
}

/** Evaluates; gives the result as text. */
export async function query(contract, name, ...args) {
    return text(await contract.evaluateTransaction(name, ...args));
}

/** Bytes as text. */
export function text(bytes) {
    return Buffer.from(bytes).toString();
}

/** Reads from an event stream until `enough(all)` says so; ends the stream. */
export async function take(events, enough) {
    const all = [];
    try {
        for await (const event of events) {
            all.push(event);
            if (enough(all)) {
                return all;
            }
        }
        assert.fail(`the stream ended after ${all.length} events`);
    } finally {
        events.close();
    }
}

/** Calls `attempt` until it gives something, for at most `patience` milliseconds. */
export async function until(what, attempt, patience = 20_000) {
    const deadline = Date.now() + patience;
    let last;
    for (;;) {
        try {
            const found = await attempt();
            if (found) {
                return found;
            }
        } catch (error) {
            last = error;
        }
        if (Date.now() >= deadline) {
            throw new Error(`no success within ${patience} ms: ${what}`, { cause: last });
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

/** The error of a call that must fail. */
export async function failure(promise) {
    try {
        await promise;
    } catch (error) {
        return error;
    }
    return assert.fail('the call was to fail and succeeded');
}
