// SPDX-License-Identifier: Apache-2.0
// The `weft` command, and what it leaves in a network's folder.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder of these tests. */
export const here = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

const target = process.env.CARGO_TARGET_DIR || path.join(os.homedir(), '.cache/weft/target');

/** Folder of `weft`, `weft-node` and `asset-contract`. */
export const bin = process.env.WEFT_BIN || path.join(target, 'debug');

/** Runs a program to its end and gives its standard output. */
export function run(program, args, { limit = 60_000, show = false, ...options } = {}) {
    return new Promise((resolve, reject) => {
        const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
        let output = '';
        let errors = '';
        const timer = setTimeout(() => child.kill('SIGKILL'), limit);
        child.stdout.on('data', (data) => (output += data));
        child.stderr.on('data', (data) => {
            errors += data;
            if (show) {
                process.stderr.write(data);
            }
        });
        child.once('error', reject);
        child.once('close', (code, signal) => {
            clearTimeout(timer);
            if (code === 0) {
                resolve(output);
            } else {
                const how = signal ? `was ended by ${signal} (limit ${limit} ms)` : `ended with ${code}`;
                const said = show ? '' : `\n${errors}`;
                reject(new Error(`${path.basename(program)} ${args.join(' ')} ${how}${said}`));
            }
        });
    });
}

/** Runs `weft`. */
export function weft(args, options) {
    return run(path.join(bin, 'weft'), args, options);
}

/** The last lines of every log of a network. */
export function logTails(dir, lines = 25) {
    const logs = fs.existsSync(dir)
        ? fs.readdirSync(dir, { recursive: true }).filter((name) => name.endsWith('.log'))
        : [];
    // RocksDB calls a file of its own so too.
    return logs
        .filter((name) => !name.includes('/data/'))
        .map((name) => {
            const text = fs.readFileSync(path.join(dir, name), 'utf8').trimEnd();
            return `--- the end of ${name}\n${text.split('\n').slice(-lines).join('\n')}`;
        })
        .join('\n');
}
