// SPDX-License-Identifier: Apache-2.0
// Brings the network up, runs the suites with Node's own test runner, takes the network down.
//
//     node run.mjs [TEST FILE...]
//
// WEFT_BIN     folder of the programs; $CARGO_TARGET_DIR/debug by default
// WEFT_NETWORK folder of a network that runs already: it is used and left running

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { here, weft, logTails } from './lib/weft.mjs';

/** All suites together must be done by then. */
const LIMIT_MS = 12 * 60_000;
/** One test. */
const TEST_LIMIT_MS = 120_000;

async function main() {
    const given = process.env.WEFT_NETWORK || undefined;
    const dir = given ?? fs.mkdtempSync(path.join(os.tmpdir(), 'weft-clients-'));
    let outcome = { code: 1, summary: '' };
    try {
        if (!given) {
            await weft(['up', '-f', path.join(here, 'network.yaml'), '--dir', dir, '--detach'], {
                limit: 180_000,
                show: true,
            });
        }
        outcome = await suites(dir, process.argv.slice(2));
    } catch (error) {
        console.error(error.message);
    } finally {
        const failed = outcome.code !== 0;
        if (failed) {
            console.error(logTails(dir));
        }
        if (!given) {
            await takeDown(dir, failed);
        }
        if (failed) {
            // The last lines are the test runner's, whatever else was said.
            console.log(outcome.summary);
        }
    }
    process.exitCode = outcome.code;
}

/** Runs the test runner, whose output is passed on as it is. Gives its exit code and summary. */
function suites(dir, files) {
    const chosen = files.length > 0 ? files : everySuite();
    // One file at a time: the machine is small, and a failure reads better.
    const args = ['--test', '--test-concurrency=1', `--test-timeout=${TEST_LIMIT_MS}`, ...chosen];
    return new Promise((resolve, reject) => {
        const runner = spawn(process.execPath, args, {
            cwd: here,
            stdio: ['inherit', 'pipe', 'inherit'],
            env: {
                ...process.env,
                WEFT_NETWORK: dir,
                // fabric-network logs errors that tests provoke.
                HFC_LOGGING: JSON.stringify({ error: path.join(dir, 'fabric-network.log') }),
            },
        });
        let output = '';
        runner.stdout.on('data', (data) => {
            process.stdout.write(data);
            output += data;
        });
        const stop = () => runner.kill();
        const limit = setTimeout(() => {
            console.error(`the suites were not done after ${LIMIT_MS / 60_000} minutes`);
            runner.kill('SIGKILL');
        }, LIMIT_MS);
        process.once('SIGINT', stop);
        process.once('SIGTERM', stop);
        runner.once('error', reject);
        runner.once('close', (code) => {
            clearTimeout(limit);
            const summary = output.slice(Math.max(0, output.lastIndexOf('\n# tests ')));
            resolve({ code: code ?? 1, summary });
        });
    });
}

/** The test runner takes them by name: `whole-chain`, the last, checks what all others left. */
function everySuite() {
    const names = fs.readdirSync(path.join(here, 'tests'));
    return names.filter((name) => name.endsWith('.test.mjs')).map((name) => `tests/${name}`);
}

/** Silent when it works: the last lines are to be the test runner's. */
async function takeDown(dir, keep) {
    try {
        await weft(['down', '--dir', dir], { limit: 90_000 });
    } catch (error) {
        console.error(error.message);
    }
    if (keep) {
        console.error(`ledgers, keys and logs are in ${dir}`);
    } else {
        fs.rmSync(dir, { recursive: true, force: true });
    }
}

await main();
