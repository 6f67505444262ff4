// SPDX-License-Identifier: Apache-2.0
// Keys and certificates by nothing but the `openssl` command line.

import fs from 'node:fs';
import path from 'node:path';
import { run } from './weft.mjs';

/** Runs `openssl`; gives what it prints. */
export function openssl(...args) {
    return run('openssl', args);
}

/** A P-256 key, PKCS#8 PEM. */
export async function newKey(file) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    await openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', file);
}

/** A self-signed root in `folder`: ca.pem and key.pem. */
export async function newRoot(folder, subject) {
    const key = path.join(folder, 'key.pem');
    await newKey(key);
    await openssl(
        ...['req', '-x509', '-new', '-sha256', '-days', '3650', '-key', key, '-subj', subject],
        ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign'],
        ...['-out', path.join(folder, 'ca.pem')],
    );
}

/** A certificate for a new key, by a request that the root in `root` signs. */
export async function newLeaf(root, { certificate, key, subject, extensions, days = 365 }) {
    fs.mkdirSync(path.dirname(certificate), { recursive: true });
    await newKey(key);
    const request = `${certificate}.csr`;
    const settings = `${certificate}.ext`;
    fs.writeFileSync(settings, extensions.join('\n'));
    await openssl('req', '-new', '-sha256', '-key', key, '-subj', subject, '-out', request);
    await openssl(
        ...['x509', '-req', '-sha256', '-days', `${days}`, '-in', request, '-extfile', settings],
        ...['-CA', path.join(root, 'ca.pem'), '-CAkey', path.join(root, 'key.pem'), '-CAcreateserial'],
        ...['-out', certificate],
    );
    fs.rmSync(request);
    fs.rmSync(settings);
    await openssl('verify', '-CAfile', path.join(root, 'ca.pem'), certificate);
}

/** What a leaf certificate says, in the words of openssl's extension files. */
export const leafExtensions = {
    identity: [
        'keyUsage=critical,digitalSignature',
        'basicConstraints=critical,CA:FALSE',
        'subjectKeyIdentifier=hash',
        'authorityKeyIdentifier=keyid',
    ],
    tls: (hosts) => [
        'keyUsage=critical,digitalSignature',
        'extendedKeyUsage=serverAuth,clientAuth',
        'basicConstraints=critical,CA:FALSE',
        'subjectKeyIdentifier=hash',
        'authorityKeyIdentifier=keyid',
        ...(hosts.length > 0 ? [`subjectAltName=${hosts.join(',')}`] : []),
    ],
};
