// `cmctl mcp` with the official client of the Model Context Protocol.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const [, , socket, cmctl] = process.argv;
const command = { command: cmctl, args: ['--socket', socket, 'mcp'], env: process.env, stderr: 'inherit' };
const transport = new StdioClientTransport(command);
const client = new Client({ name: 'cmssh-test', version: '1' });
client.onerror = (error) => { throw error; };  // a line that is not the protocol's
await client.connect(transport);
assert.equal(client.getServerVersion().name, 'cmssh');
await client.ping();

const { tools } = await client.listTools();
assert.deepEqual(tools.map(({ name }) => name).sort(),
                 ['contexts', 'exec', 'get', 'kill', 'list', 'logs', 'send', 'start', 'stats', 'wait']);
for (const tool of tools) {
    assert.ok(tool.description.length > 10 && tool.outputSchema.type === 'object', tool.name);
    assert.ok(!('auth_sock' in tool.inputSchema.properties) && !('interactive' in tool.inputSchema.properties));
}

// The SDK checks every result against the tool's schema.
async function call(name, args = {}, options = {}) {
    const result = await client.callTool({ name, arguments: args }, undefined, options);
    assert.ok(!result.isError, JSON.stringify(result));
    assert.deepEqual(JSON.parse(result.content[0].text), result.structuredContent);
    return result.structuredContent;
}
async function refusal(name, args) {
    const result = await client.callTool({ name, arguments: args });
    assert.equal(result.isError, true);
    return result;
}

assert.ok((await call('contexts')).contexts.length > 0);
const phases = [];
const { session } = await call('start', { ctx: 'server-b', command: ['sh', '-c', 'echo ready; read -r x; echo "got $x"; exit 4'] },
                               { onprogress: ({ message }) => phases.push(message) });
assert.ok(phases.includes('server-b: connecting'), `progress of a login: ${phases}`);
assert.equal((await call('get', { session: session.id })).session.state, 'running');

// A call that waits keeps nobody waiting.
let ended = false;
const waiting = call('wait', { session: session.id }).then((result) => { ended = true; return result; });
assert.equal((await call('exec', { ctx: 'server-b', command: ['printf', '%s', 'a  b'] })).stdout, 'a  b');
assert.ok((await call('list')).sessions.some(({ id }) => id === session.id));
assert.equal(ended, false);
await call('send', { session: session.id, text: 'it' });
assert.equal((await waiting).session.exit_code, 4);
assert.match((await call('logs', { session: session.id })).text, /got it/);

const uri = `cmssh://session/${session.id}/logs`;
const { resources } = await client.listResources();
assert.equal(resources[0].uri, uri, 'the newest first');
const { contents } = await client.readResource({ uri });
assert.equal(contents[0].mimeType, 'text/plain');
assert.match(contents[0].text, /ready\n.*got it\n/s);
await assert.rejects(client.readResource({ uri: 'cmssh://session/sess-nosuch/logs' }), { code: -32002 });
await assert.rejects(client.readResource({ uri: 'file:///etc/passwd' }), { code: -32002 });
assert.equal((await client.listResourceTemplates()).resourceTemplates.length, 1);

const missing = await refusal('get', { session: 'sess-nosuch' });
assert.match(missing.content[0].text, /^session_not_found: .*\nhint: /s);
assert.equal(missing._meta['cmssh/error'].code, -32014);
assert.match((await refusal('get', { session: 5 })).content[0].text, /^invalid_params: /);
assert.match((await refusal('start', { command: ['true'], interactive: true })).content[0].text, /no such argument/);
await assert.rejects(client.callTool({ name: 'shutdown', arguments: {} }), { code: -32602 });

// Cancelled: no answer comes, and the daemon has the connection no more.
const { session: long } = await call('start', { ctx: 'server-b', command: ['sleep', '1000'] });
const before = (await call('stats')).daemon.clients;
const controller = new AbortController();
const cancelled = client.callTool({ name: 'wait', arguments: { session: long.id } }, undefined, { signal: controller.signal });
while ((await call('stats')).daemon.clients === before) { /* until the wait has got there */ }
controller.abort('enough');
await assert.rejects(cancelled);
while ((await call('stats')).daemon.clients !== before) { /* until the daemon has heard of it */ }
assert.equal((await call('kill', { session: long.id })).session.state, 'killed');
await client.close();

// Versions, and what no SDK sends.
const raw = spawn(cmctl, ['--socket', socket, 'mcp'], { stdio: ['pipe', 'pipe', 'inherit'] });
const lines = createInterface({ input: raw.stdout })[Symbol.asyncIterator]();
async function ask(line) {
    raw.stdin.write(line + '\n');
    return JSON.parse((await lines.next()).value);
}
for (const [asked, given] of [['2024-11-05', '2024-11-05'], ['2025-06-18', '2025-06-18'], ['1999-01-01', '2025-11-25']]) {
    const hello = await ask(JSON.stringify({ jsonrpc: '2.0', id: asked, method: 'initialize', params: { protocolVersion: asked } }));
    assert.equal(hello.id, asked);
    assert.equal(hello.result.protocolVersion, given);
}
assert.equal((await ask('{"jsonrpc":')).error.code, -32700);
assert.equal((await ask('{"jsonrpc":"2.0","id":1,"method":"no/such"}')).error.code, -32601);
assert.equal((await ask('{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"list","_meta":7,"arguments":[]}}')).result.isError, true);
raw.stdin.end('{"jsonrpc":"2.0","id":3,"method":"ping"}');
assert.deepEqual(JSON.parse((await lines.next()).value), { jsonrpc: '2.0', id: 3, result: {} });
assert.equal(await new Promise((resolve) => raw.on('exit', resolve)), 0);
