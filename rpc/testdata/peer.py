"""A client and a server of the test service that know nothing of side effects: grpcio and what
protoc makes, no more.  peer.py client HOST:PORT | peer.py server
"""

import sys
from concurrent import futures

import grpc
import store_pb2 as pb

SERVICE = "pannier.rpc.storetest.Store"


def call(channel, kind, method):
    return getattr(channel, kind)(
        f"/{SERVICE}/{method}",
        request_serializer=pb.Item.SerializeToString,
        response_deserializer=pb.Receipt.FromString,
    )


def client(address):
    body = bytes(range(256)) * 4096
    with grpc.insecure_channel(address) as channel:
        r, c = call(channel, "unary_unary", "Call").with_call(
            pb.Item(name="one", body=body), timeout=60, metadata=[("from", "python")]
        )
        assert r.name == "one" and r.bytes == len(body) and list(r.notes) == ["python"], r
        assert dict(c.initial_metadata())["head"] == "h" and dict(c.trailing_metadata())["tail"] == "t"
        r = call(channel, "stream_unary", "Gather")((pb.Item(body=b"x" * n) for n in range(100)), timeout=60)
        assert r.bytes == 4950, r
        names = [r.name for r in call(channel, "unary_stream", "Watch")(pb.Item(name="w"), timeout=60)]
        assert names == ["w0", "w1", "w2"], names
        names = [r.name for r in call(channel, "stream_stream", "Talk")((pb.Item(name=str(n)) for n in range(5)), timeout=60)]
        assert names == ["0", "1", "2", "3", "4"], names
        try:
            call(channel, "unary_unary", "Call")(pb.Item(name="fail"), timeout=60)
            assert False, "a refused call came back"
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.FAILED_PRECONDITION and e.details() == "not today", e
        try:
            call(channel, "unary_unary", "Call")(pb.Item(name="slow"), timeout=0.2)
            assert False, "a late call came back"
        except grpc.RpcError as e:
            # Any server in Go resets a call whose time is up, with CANCEL, which may be here before this end's own clock has struck.
            late = e.code() == grpc.StatusCode.CANCELLED and e.details() == "Received RST_STREAM with error code 8"
            assert late or e.code() == grpc.StatusCode.DEADLINE_EXCEEDED, e
        streaming = call(channel, "stream_stream", "Talk")(iter([pb.Item(name="cancel")]), timeout=60)
        assert next(streaming).name == "cancel"
        streaming.cancel()
    print("all answered")


class Store(grpc.GenericRpcHandler):
    def service(self, details):
        def handle(kind, behaviour):
            return getattr(grpc, kind + "_rpc_method_handler")(
                behaviour,
                request_deserializer=pb.Item.FromString,
                response_serializer=pb.Receipt.SerializeToString,
            )

        return {
            f"/{SERVICE}/Call": handle("unary_unary", self.call),
            f"/{SERVICE}/Gather": handle("stream_unary", lambda items, _: pb.Receipt(bytes=sum(len(i.body) for i in items))),
            f"/{SERVICE}/Watch": handle("unary_stream", lambda i, _: (pb.Receipt(name=i.name + str(n)) for n in range(3))),
            f"/{SERVICE}/Talk": handle("stream_stream", lambda items, _: (pb.Receipt(name=i.name) for i in items)),
        }.get(details.method)

    def call(self, item, context):
        if item.name == "fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
        return pb.Receipt(name=item.name, bytes=len(item.body))


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([Store()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()  # until the test is over
    server.stop(None)


if __name__ == "__main__":
    client(sys.argv[2]) if sys.argv[1] == "client" else serve()
