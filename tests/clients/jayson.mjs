// npm's jayson: one JSON text per line.
import jayson from 'jayson/promise/index.js';
import { checkSessions } from './check.mjs';

const client = jayson.Client.tcp({ path: process.argv[2] });
await checkSessions(async (method, params) => {
    const response = await client.request(method, params);
    if (response.error) {
        throw Object.assign(new Error(response.error.message), response.error);
    }
    return response.result;
});
