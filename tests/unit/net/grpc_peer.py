#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The other side of the gRPC tests: Debian's grpcio as a server or as a client.

grpc_peer.py server       prints its port, serves until standard input ends
grpc_peer.py client PORT  makes calls, prints "ok" when all went as expected
"""
import sys
import threading
from concurrent import futures

import grpc

OPTIONS = [
    ("grpc.max_receive_message_length", 8 << 20),
    ("grpc.max_send_message_length", 8 << 20),
    ("grpc.so_reuseport", 0),
]


class Handler(grpc.GenericRpcHandler):
    """Serves /test.Peer/METHOD with bytes as messages."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)
        self.server = None

    def service(self, details):
        method = getattr(self, details.method.rsplit("/", 1)[1].lower(), None)
        if not details.method.startswith("/test.Peer/") or method is None:
            return None
        return grpc.unary_unary_rpc_method_handler(method)

    def echo(self, request, context):
        return request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "näh: 100% \n" + request.decode())

    def crash(self, request, context):
        raise RuntimeError("deliberate")

    def token(self, request, context):
        return dict(context.invocation_metadata())["api-token"].encode()

    def slow(self, request, context):
        context.add_callback(self.cancelled.release)
        done = threading.Event()
        context.add_callback(done.set)
        self.begun.release()
        done.wait(30)
        return b""

    def waitbegun(self, request, context):
        """Until one more Slow has begun: one that is cancelled before is never told of it."""
        if not self.begun.acquire(timeout=20):
            context.abort(grpc.StatusCode.INTERNAL, "no slow call came")
        return b"begun"

    def waitcancelled(self, request, context):
        for _ in range(int(request)):
            if not self.cancelled.acquire(timeout=20):
                context.abort(grpc.StatusCode.INTERNAL, "no cancellation came")
        return b"cancelled"

    def large(self, request, context):
        return b"x" * int(request)

    def stop(self, request, context):
        self.server.stop(grace=20)
        return b"stopping"


def serve():
    handler = Handler()
    server = grpc.server(futures.ThreadPoolExecutor(16), options=OPTIONS)
    handler.server = server
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(grace=0)


def expect(condition, text):
    if not condition:
        print("failed:", text, flush=True)
        sys.exit(1)


def expect_error(code, details, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except grpc.RpcError as error:
        expect(error.code() == code, "expected %s, got %s: %s" % (code, error.code(), error.details()))
        if details is not None:
            expect(error.details() == details, "details %r" % error.details())
        return
    expect(False, "expected %s" % code)


def call_all(port):
    channel = grpc.insecure_channel("127.0.0.1:%d" % port, options=OPTIONS)
    echo = channel.unary_unary("/test.Peer/Echo")
    slow = channel.unary_unary("/test.Peer/Slow")

    expect(echo(b"hello", timeout=20) == b"hello", "echo")
    expect(echo(b"", timeout=20) == b"", "empty echo")
    big = bytes(range(256)) * 4096
    expect(echo(big, timeout=20) == big, "1 MiB")
    calls = [echo.future(b"%d" % i, timeout=60) for i in range(1000)]
    for i, call in enumerate(calls):
        expect(call.result() == b"%d" % i, "call %d" % i)
    calls = [echo.future(big, timeout=60) for i in range(12)]
    for call in calls:
        expect(call.result() == big, "large calls at once")
    expect_error(grpc.StatusCode.NOT_FOUND, "näh: 100% \n", channel.unary_unary("/test.Peer/Fail"), b"", timeout=20)
    expect_error(grpc.StatusCode.UNIMPLEMENTED, "unknown method", channel.unary_unary("/test.Peer/Other"), b"", timeout=20)
    expect_error(grpc.StatusCode.RESOURCE_EXHAUSTED, None, echo, b"x" * (5 << 20), timeout=20)
    expect_error(grpc.StatusCode.DEADLINE_EXCEEDED, None, slow, b"", timeout=3)
    call = slow.future(b"", timeout=60)
    count = channel.unary_unary("/test.Peer/WaitSlow")
    expect(count(b"", timeout=20) == b"2", "slow calls that arrived")
    call.cancel()
    cancelled = channel.unary_unary("/test.Peer/WaitCancelled")
    expect(cancelled(b"", timeout=20) == b"2", "cancelled calls")
    gzip = channel.unary_unary("/test.Peer/Echo")
    expect_error(grpc.StatusCode.UNIMPLEMENTED, None, gzip, b"x" * 1000, timeout=20, compression=grpc.Compression.Gzip)
    stop = channel.unary_unary("/test.Peer/Stop")
    expect(stop(b"", timeout=20) == b"stopping", "stop")
    channel.close()
    print("ok", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve()
    else:
        call_all(int(sys.argv[2]))
