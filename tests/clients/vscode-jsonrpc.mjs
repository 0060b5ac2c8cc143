// npm's vscode-jsonrpc: Content-Length headers, as between editors and language servers.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import rpc from 'vscode-jsonrpc/node';
import { checkSessions } from './check.mjs';

const socket = net.connect(process.argv[2]);
await once(socket, 'connect');
const connection = rpc.createMessageConnection(new rpc.SocketMessageReader(socket), new rpc.SocketMessageWriter(socket));
connection.listen();
const call = (method, params) => connection.sendRequest(method, rpc.ParameterStructures.byName, params);
await checkSessions(call);

// Several at once, on one connection.
const started = await call('start', { ctx: 'server-a', command: ['sleep', '1000'] });
const waiting = call('wait', { session: started.session.id });
assert.deepEqual(await call('ping', {}), {});
await call('kill', { session: started.session.id });
assert.equal((await waiting).session.state, 'killed');
connection.dispose();
socket.destroy();
