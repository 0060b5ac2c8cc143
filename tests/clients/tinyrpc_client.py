"""Debian's python3-tinyrpc over the socket: its protocol, and a transport of ten lines."""

import socket
import sys

from tinyrpc.client import RPCClient
from tinyrpc.exc import RPCError
from tinyrpc.protocols.jsonrpc import JSONRPCProtocol
from tinyrpc.transports import ClientTransport


class UnixTransport(ClientTransport):
    def __init__(self, path):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        self.stream = connection.makefile("rwb")

    def send_message(self, message, expect_reply=True):
        self.stream.write(message if isinstance(message, bytes) else message.encode())
        self.stream.write(b"\n")
        self.stream.flush()
        while expect_reply:
            line = self.stream.readline()
            # What comes meanwhile about a login is no reply.
            if b'"method":"progress"' not in line:
                return line.decode()


client = RPCClient(JSONRPCProtocol(), UnixTransport(sys.argv[1]))


def call(method, **params):
    return client.call(method, [], params)


assert call("version")["protocol"] == 1
started = call("start", ctx="server-a", command=["sh", "-c", "exit 3"])
ended = call("wait", session=started["session"]["id"], timeout_ms=20000)
assert ended["session"]["exit_code"] == 3, ended
long = call("start", ctx="server-a", command=["sleep", "1000"])["session"]["id"]
assert long in [session["id"] for session in call("list")["sessions"]]
assert call("kill", session=long)["session"]["state"] == "killed"
try:
    call("get", session="sess-nosuch")
except RPCError as error:
    assert "sess-nosuch" in str(error), error
else:
    raise AssertionError("there is such a session")
