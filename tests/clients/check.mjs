// What every client of the API checks, whoever wrote it: call(method, params) gives the result, or throws.
import assert from 'node:assert/strict';

export async function checkSessions(call) {
    const version = await call('version', {});
    assert.equal(version.protocol, 1);
    assert.ok(Array.isArray((await call('list', {})).sessions));

    const started = await call('start', { ctx: 'server-a', command: ['sh', '-c', 'echo "hällo"; exit 3'] });
    const ended = await call('wait', { session: started.session.id, timeout_ms: 20000 });
    assert.equal(ended.session.state, 'exited');
    assert.equal(ended.session.exit_code, 3);
    assert.match((await call('logs', { session: started.session.id })).text, /hällo/);

    const long = await call('start', { ctx: 'server-a', command: ['sleep', '1000'] });
    assert.equal(long.reused, true);
    assert.ok((await call('list', {})).sessions.some((session) => session.id === long.session.id));
    const killed = await call('kill', { session: long.session.id });
    assert.equal(killed.session.state, 'killed');

    await assert.rejects(call('get', { session: 'sess-nosuch' }), (error) => {
        assert.equal(error.code, -32014);
        assert.equal(error.data.kind, 'session_not_found');
        return true;
    });
}
