// SPDX-License-Identifier: Apache-2.0
// Recomputes what a ledger says of its blocks, from the blocks alone: with a DER writer of its
// own, Node's crypto, and the messages of @hyperledger/fabric-protos. Nothing of weft is used.

import crypto from 'node:crypto';
import { common, ledger } from '@hyperledger/fabric-protos';
import { openActions, openEnvelope } from './transactions.mjs';

/** Places in a block's metadata. */
export const SIGNATURES = 0;
export const LAST_CONFIG = 1;
export const TRANSACTIONS_FILTER = 2;
export const COMMIT_HASH = 4;

/** Types of a channel header. */
export const CONFIG = 1;
export const ENDORSER_TRANSACTION = 3;

export function sha256(...parts) {
    const hash = crypto.createHash('sha256');
    parts.forEach((part) => hash.update(part));
    return hash.digest();
}

// --- DER (X.690)

function der(tag, content) {
    if (content.length < 128) {
        return Buffer.concat([Buffer.from([tag, content.length]), content]);
    }
    const length = unsigned(content.length);
    return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, content]);
}

/** Big-endian, as short as can be; one byte for zero. */
function unsigned(number) {
    const bytes = [];
    for (let rest = BigInt(number); rest > 0n; rest >>= 8n) {
        bytes.unshift(Number(rest & 0xffn));
    }
    return Buffer.from(bytes.length > 0 ? bytes : [0]);
}

/** An INTEGER is signed: a set top bit needs a zero before it. */
function integer(number) {
    const bytes = unsigned(number);
    return der(0x02, bytes[0] & 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}

const octets = (bytes) => der(0x04, Buffer.from(bytes));
const sequence = (...parts) => der(0x30, Buffer.concat(parts));

/** The bytes of a header that are hashed and signed. */
export function headerBytes(header) {
    return sequence(
        integer(header.getNumber()),
        octets(header.getPreviousHash_asU8()),
        octets(header.getDataHash_asU8()),
    );
}

export function headerHash(header) {
    return sha256(headerBytes(header));
}

export function dataHash(block) {
    return sha256(...block.getData().getDataList_asU8());
}

/** The code of each transaction. */
export function filter(block) {
    return Buffer.from(block.getMetadata().getMetadataList_asU8()[TRANSACTIONS_FILTER]);
}

/** A place of the metadata that holds a `Metadata` message. */
export function metadata(block, place) {
    return common.Metadata.deserializeBinary(block.getMetadata().getMetadataList_asU8()[place]);
}

/** Whether the block holds one config transaction and nothing else. */
export function isConfig(block) {
    const data = block.getData().getDataList_asU8();
    return data.length === 1 && openEnvelope(data[0]).channelHeader.getType() === CONFIG;
}

/** Whether an ECDSA signature over P-256 has an S in the lower half of the group's order. */
export function isLowS(signature) {
    const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
    // SEQUENCE { INTEGER r, INTEGER s }, both short.
    const lengthOfR = signature[3];
    const s = Buffer.from(signature.subarray(4 + lengthOfR + 2));
    return BigInt(`0x${s.toString('hex')}`) <= order / 2n;
}

// --- The commit hash (Fabric: core/ledger/kvledger/kv_ledger.go and txmgmt/txmgr)

/**
 * The state of a channel as far as the commit hash needs it, block by block: each commit hash
 * is SHA-256 over the filter with its length before it, the writes of the valid transactions
 * in a fixed order, and the commit hash before.
 */
export class CommitHashes {
    #state = new Map();
    #previous = Buffer.alloc(0);

    /** The commit hash of the next block; the genesis block has none. */
    next(block) {
        const writes = this.#writes(block);
        if (Number(block.getHeader().getNumber()) === 0) {
            return undefined;
        }
        const codes = filter(block);
        const parts = [varint(codes.length), codes, encodeWrites(writes), this.#previous];
        this.#previous = sha256(...parts);
        return this.#previous;
    }

    /** What the block writes: namespace → collection (`''` is public) → key → write. */
    #writes(block) {
        const number = Number(block.getHeader().getNumber());
        const codes = filter(block);
        const writes = new Map();
        block.getData().getDataList_asU8().forEach((bytes, position) => {
            const { channelHeader, data } = openEnvelope(bytes);
            if (codes[position] !== 0 || channelHeader.getType() !== ENDORSER_TRANSACTION) {
                return;
            }
            const version = Buffer.concat([orderedVarint(number), orderedVarint(position)]);
            for (const action of openActions(data)) {
                for (const one of writesOf(action.readWriteSet)) {
                    this.#apply(writes, one, version);
                }
            }
        });
        return writes;
    }

    #apply(writes, { namespace, collection, key, value, isDelete, onlyMetadata }, version) {
        const place = `${namespace}\0${collection}\0${key.toString('hex')}`;
        if (onlyMetadata) {
            // Metadata alone gives the value that is there a new version.
            value = this.#state.get(place);
            if (value === undefined) {
                return;
            }
        }
        if (isDelete) {
            this.#state.delete(place);
        } else {
            this.#state.set(place, value);
        }
        const inNamespace = getOrInsert(writes, namespace, () => new Map());
        const inCollection = getOrInsert(inNamespace, collection, () => new Map());
        inCollection.set(key.toString('latin1'), { key, value, isDelete, version });
    }
}

/** The writes of a transaction, with those that set only metadata after the others. */
function* writesOf(readWriteSet) {
    for (const one of readWriteSet.getNsRwsetList()) {
        const namespace = one.getNamespace();
        const set = ledger.rwset.kvrwset.KVRWSet.deserializeBinary(one.getRwset_asU8());
        const written = new Set();
        for (const write of set.getWritesList()) {
            written.add(write.getKey());
            yield {
                namespace,
                collection: '',
                key: Buffer.from(write.getKey()),
                value: Buffer.from(write.getValue_asU8()),
                // An empty value is no value.
                isDelete: write.getIsDelete() || write.getValue_asU8().length === 0,
            };
        }
        for (const write of set.getMetadataWritesList()) {
            if (!written.has(write.getKey())) {
                const key = Buffer.from(write.getKey());
                yield { namespace, collection: '', key, onlyMetadata: true };
            }
        }
        for (const hashed of one.getCollectionHashedRwsetList()) {
            const hashes = ledger.rwset.kvrwset.HashedRWSet.deserializeBinary(
                hashed.getHashedRwset_asU8(),
            );
            const collection = hashed.getCollectionName();
            const written = new Set();
            for (const write of hashes.getHashedWritesList()) {
                const key = Buffer.from(write.getKeyHash_asU8());
                written.add(key.toString('hex'));
                yield {
                    namespace,
                    collection,
                    key,
                    value: Buffer.from(write.getValueHash_asU8()),
                    isDelete: write.getIsDelete() || write.getIsPurge(),
                };
            }
            for (const write of hashes.getMetadataWritesList()) {
                const key = Buffer.from(write.getKeyHash_asU8());
                if (!written.has(key.toString('hex'))) {
                    yield { namespace, collection, key, onlyMetadata: true };
                }
            }
        }
    }
}

/**
 * The writes as protobuf: by namespace, public before collections, by key. Only the first
 * write of a namespace, and of a collection, names it.
 */
function encodeWrites(writes) {
    const encoded = [];
    for (const [namespace, collections] of sorted(writes, 'utf8')) {
        let first = true;
        for (const [collection, keys] of sorted(collections, 'utf8')) {
            let firstOfCollection = true;
            for (const [, write] of sorted(keys, 'latin1')) {
                const message = Buffer.concat([
                    field(1, first ? Buffer.from(namespace) : undefined),
                    field(2, firstOfCollection ? Buffer.from(collection) : undefined),
                    field(3, write.key),
                    write.isDelete ? Buffer.from([4 << 3, 1]) : Buffer.alloc(0),
                    field(5, write.isDelete ? undefined : write.value),
                    field(6, write.version),
                ]);
                encoded.push(Buffer.from([(1 << 3) | 2]), varint(message.length), message);
                first = false;
                firstOfCollection = false;
            }
        }
    }
    return Buffer.concat(encoded);
}

/** A field of bytes; an empty one is not written. */
function field(number, bytes) {
    if (bytes === undefined || bytes.length === 0) {
        return Buffer.alloc(0);
    }
    return Buffer.concat([Buffer.from([(number << 3) | 2]), varint(bytes.length), bytes]);
}

function varint(number) {
    const bytes = [];
    let rest = number;
    for (; rest > 127; rest = Math.floor(rest / 128)) {
        bytes.push((rest % 128) | 128);
    }
    return Buffer.from([...bytes, rest]);
}

/** A number whose encodings sort as the numbers do: how many bytes, then the bytes. */
function orderedVarint(number) {
    const bytes = number === 0 ? Buffer.alloc(0) : unsigned(number);
    return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}

/** Entries by the bytes of their keys, which are text of that encoding. */
function sorted(map, encoding) {
    return [...map].sort(([a], [b]) => Buffer.compare(Buffer.from(a, encoding), Buffer.from(b, encoding)));
}

function getOrInsert(map, key, make) {
    if (!map.has(key)) {
        map.set(key, make());
    }
    return map.get(key);
}
