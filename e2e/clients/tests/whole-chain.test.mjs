// SPDX-License-Identifier: Apache-2.0
// Every block of the channel, recomputed by lib/blocks.mjs from what Deliver returns.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { common, peer } from '@hyperledger/fabric-protos';
import {
    CommitHashes,
    COMMIT_HASH,
    ENDORSER_TRANSACTION,
    LAST_CONFIG,
    SIGNATURES,
    dataHash,
    filter,
    headerBytes,
    headerHash,
    isConfig,
    isLowS,
    metadata,
    sha256,
} from '../lib/blocks.mjs';
import { Network, commit, submit, take, unique } from '../lib/network.mjs';
import { openActions, openEnvelope, openIdentity } from '../lib/transactions.mjs';

const network = new Network();
const codes = peer.TxValidationCode;
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const numberOf = (block) => block.getHeader().getNumber();

/** Blocks from the first to the one that holds the last transaction of `before`. */
let blocks;
let last;

before(async () => {
    const nodejs = network.contract('nodejs');
    const asset = network.contract('asset');
    // Of every kind, so that the recomputed things are not all alike.
    const id = unique('block');
    await commit(asset, 'CreateAsset', id, 'red', '1', 'ada', '1');
    const endorse = (owner) => asset.newProposal('TransferAsset', { arguments: [id, owner] }).endorse();
    const [won, lost] = [await endorse('bert'), await endorse('cleo')];
    await (await won.submit()).getStatus();
    assert.equal((await (await lost.submit()).getStatus()).code, codes.MVCC_READ_CONFLICT);
    await commit(asset, 'DeleteAsset', id);
    await commit(nodejs, 'put', id, '1');
    await commit(nodejs, 'endorsedBy', id, 'PEER', 'Org1MSP');
    await Promise.all(
        Array.from({ length: 40 }, (_, i) => submit(asset, 'Put', { arguments: [`${id}-${i}`, `${i}`] })),
    );
    ({ blockNumber: last } = await commit(network.contract('pair'), 'Put', id, 'end'));
    blocks = await read();
});

async function read(options) {
    const events = await network.channel(options).getBlockEvents({ startBlock: 0n });
    return take(events, (all) => BigInt(numberOf(all.at(-1))) === last);
}

/** What all copies of a block agree in: not in the signature, as each orderer signs its own copy. */
function agreed(block) {
    const [, ...rest] = block.getMetadata().getMetadataList_asU8();
    return {
        header: hex(block.getHeader().serializeBinary()),
        data: hex(dataHash(block)),
        orderer: hex(metadata(block, SIGNATURES).getValue_asU8()),
        rest: rest.map(hex),
    };
}

describe('headers', () => {
    test('count up, and each names the hash of the one before', () => {
        assert.ok(blocks.length > 8, `${blocks.length} blocks`);
        assert.deepEqual(blocks.map(numberOf), blocks.map((_, i) => i));
        assert.equal(blocks[0].getHeader().getPreviousHash_asU8().length, 0);
        for (let i = 1; i < blocks.length; i += 1) {
            const previous = blocks[i].getHeader().getPreviousHash_asU8();
            assert.equal(hex(previous), hex(headerHash(blocks[i - 1].getHeader())), `block ${i}`);
        }
    });

    test('name the hash of the transactions', () => {
        for (const block of blocks) {
            const named = block.getHeader().getDataHash_asU8();
            assert.equal(hex(named), hex(dataHash(block)), `block ${numberOf(block)}`);
        }
        assert.ok(blocks.some((block) => block.getData().getDataList().length > 1));
    });

    test('are those that other peers give, with the same transactions and metadata', async () => {
        for (const options of [{ peer: 1 }, { mspId: 'Org2MSP' }]) {
            const others = await read(options);
            blocks.forEach((block, i) => {
                assert.deepEqual(agreed(others[i]), agreed(block), `block ${i}`);
            });
        }
    });
});

describe('transactions', () => {
    test('have one encoding: decoded and encoded again they are the same bytes', () => {
        for (const block of blocks) {
            for (const bytes of block.getData().getDataList_asU8()) {
                const again = common.Envelope.deserializeBinary(bytes).serializeBinary();
                assert.equal(hex(again), hex(bytes), `block ${numberOf(block)}`);
            }
        }
    });

    test('have an id that is the hash of nonce and creator', () => {
        let seen = 0;
        for (const bytes of blocks.flatMap((block) => block.getData().getDataList_asU8())) {
            const { channelHeader, signatureHeader } = openEnvelope(bytes);
            assert.equal(channelHeader.getChannelId(), network.connection.channel);
            if (channelHeader.getType() === ENDORSER_TRANSACTION) {
                const id = sha256(signatureHeader.getNonce_asU8(), signatureHeader.getCreator_asU8());
                assert.equal(channelHeader.getTxId(), hex(id));
                seen += 1;
            }
        }
        assert.ok(seen > 40, `${seen} endorser transactions`);
    });

    test('carry signatures of their creators and endorsers', () => {
        for (const bytes of blocks.flatMap((block) => block.getData().getDataList_asU8())) {
            const { envelope, channelHeader, signatureHeader, data } = openEnvelope(bytes);
            if (channelHeader.getType() !== ENDORSER_TRANSACTION) {
                continue;
            }
            const creator = signatureHeader.getCreator_asU8();
            verify(creator, envelope.getPayload_asU8(), envelope.getSignature_asU8());
            for (const action of openActions(data)) {
                assert.ok(action.endorsements.length > 0);
                for (const one of action.endorsements) {
                    const endorser = one.getEndorser_asU8();
                    verify(endorser, Buffer.concat([action.responsePayload, endorser]), one.getSignature_asU8());
                }
            }
        }
    });
});

/** The signature is the identity's, with a low S, and its organization's root issued it. */
function verify(identityBytes, signed, signature) {
    const { mspId, pem } = openIdentity(identityBytes);
    const certificate = new crypto.X509Certificate(pem);
    assert.ok(certificate.verify(rootOf(mspId).publicKey), `${mspId} has not issued the certificate`);
    assert.ok(crypto.verify('sha256', signed, certificate.publicKey, signature), 'the signature does not hold');
    assert.ok(isLowS(signature), 'S is high');
    return { mspId, certificate };
}

const roots = new Map();

function rootOf(mspId) {
    if (!roots.has(mspId)) {
        const folder = { OrdererMSP: 'ordering', Org1MSP: 'org1', Org2MSP: 'org2' }[mspId];
        assert.ok(folder, `an unknown organization ${mspId}`);
        const pem = fs.readFileSync(path.join(network.dir, folder, 'ca/ca.pem'));
        roots.set(mspId, new crypto.X509Certificate(pem));
    }
    return roots.get(mspId);
}

describe('metadata', () => {
    test('holds the signature of an orderer over itself and the header', () => {
        const signers = new Set();
        for (const block of blocks.slice(1)) {
            const slot = metadata(block, SIGNATURES);
            const signatures = slot.getSignaturesList();
            assert.equal(signatures.length, 1, `block ${numberOf(block)}`);
            const [one] = signatures;
            const header = common.SignatureHeader.deserializeBinary(one.getSignatureHeader_asU8());
            const signed = Buffer.concat([
                slot.getValue_asU8(),
                one.getSignatureHeader_asU8(),
                headerBytes(block.getHeader()),
            ]);
            const { mspId, certificate } = verify(header.getCreator_asU8(), signed, one.getSignature_asU8());
            assert.equal(mspId, 'OrdererMSP');
            assert.match(certificate.subject, /^OU=orderer$/m);
            signers.add(certificate.subject);
            // Over another header it does not hold.
            signed[signed.length - 1] ^= 1;
            assert.equal(crypto.verify('sha256', signed, certificate.publicKey, one.getSignature_asU8()), false);
        }
        assert.ok(signers.size >= 1);
    });

    test('names the last config block, in the orderer\'s part and in its own place', () => {
        let expected = 0;
        for (const block of blocks) {
            if (isConfig(block)) {
                expected = numberOf(block);
            }
            const value = metadata(block, SIGNATURES).getValue_asU8();
            const orderer = common.OrdererBlockMetadata.deserializeBinary(value);
            assert.equal(orderer.getLastConfig()?.getIndex() ?? 0, expected, `block ${numberOf(block)}`);
            const own = metadata(block, LAST_CONFIG).getValue_asU8();
            assert.equal(common.LastConfig.deserializeBinary(own).getIndex(), expected, `block ${numberOf(block)}`);
            if (numberOf(block) > 0) {
                assert.ok(orderer.getConsenterMetadata_asU8().length > 0, 'no metadata of the consenters');
            }
        }
    });

    test('has a validation code for each transaction', async () => {
        const seen = new Set();
        for (const block of blocks) {
            const flags = filter(block);
            assert.equal(flags.length, block.getData().getDataList().length, `block ${numberOf(block)}`);
            flags.forEach((code) => seen.add(code));
        }
        assert.ok(seen.has(codes.VALID));
        assert.ok(seen.has(codes.MVCC_READ_CONFLICT));
        assert.equal(seen.has(codes.NOT_VALIDATED), false);
        // They are the ones that filtered blocks tell.
        const events = await network.channel().getFilteredBlockEvents({ startBlock: 0n });
        const filtered = await take(events, (all) => BigInt(all.at(-1).getNumber()) === last);
        filtered.forEach((block, i) => {
            const told = block.getFilteredTransactionsList().map((one) => one.getTxValidationCode());
            assert.deepEqual(told, [...filter(blocks[i])], `block ${i}`);
        });
    });

    test('chains the commit hashes over codes and writes', () => {
        const hashes = new CommitHashes();
        for (const block of blocks) {
            const expected = hashes.next(block);
            const found = block.getMetadata().getMetadataList_asU8()[COMMIT_HASH];
            if (expected === undefined) {
                assert.equal(found?.length ?? 0, 0, 'the first block has no commit hash');
            } else {
                const value = common.Metadata.deserializeBinary(found).getValue_asU8();
                assert.equal(hex(value), hex(expected), `block ${numberOf(block)}`);
            }
        }
    });
});
