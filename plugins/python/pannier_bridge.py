"""What a bridge in Python needs to be a plugin of Pannier, as plugins.Serve is in Go. spec/plugin.md is the contract.

A bridge is a subclass of Session and a call of serve; pydir.py is the example. Needed are grpcio, cryptography
and protobuf, and bridge_pb2.py beside this file: protoc -I spec/bridgepb --python_out=. bridge.proto
"""

import base64, collections, contextlib, datetime, enum, errno, itertools, json, os, signal, sys, threading, traceback
from concurrent import futures

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import any_pb2, descriptor_pb2

import bridge_pb2 as pb


class Kind(enum.IntEnum):
    """The kinds of spec/fault that a driver may need. Retried are LOST, DEAD_PEER, DEADLINE, OVERLOADED, DRAINING and IO."""

    INTERNAL, INVALID, CANCELED, DEADLINE, NOT_FOUND, EXISTS, PERMISSION, UNAUTHENTICATED, UNSUPPORTED, REFUSED = range(1, 11)
    PROTOCOL, CORRUPT, QUOTA, SOURCE_CHANGED, NO_SPACE, IO, LOST, DEAD_PEER, STALE = range(11, 20)
    DRAINING, OVERLOADED, TOO_LONG = 21, 22, 24


class Fault(Exception):
    """An error of a call. What the server said has side 1, and its code."""

    def __init__(self, kind, text, advice="", side=0, code=""):
        super().__init__(text)
        self.kind, self.text, self.advice, self.side, self.code = kind, text, advice, side, code


ERRNO = {errno.ENOENT: Kind.NOT_FOUND, errno.EEXIST: Kind.EXISTS, errno.EACCES: Kind.PERMISSION, errno.EPERM: Kind.PERMISSION,
         errno.EROFS: Kind.PERMISSION, errno.ENOSPC: Kind.NO_SPACE, errno.EDQUOT: Kind.NO_SPACE, errno.EFBIG: Kind.NO_SPACE,
         errno.EMFILE: Kind.OVERLOADED, errno.ENFILE: Kind.OVERLOADED, errno.ECONNRESET: Kind.LOST, errno.EPIPE: Kind.LOST,
         errno.ECONNREFUSED: Kind.LOST}


class Session:
    """A login at one server, made with an Endpoint (pb.OpenRequest). Its methods may be called by several threads at once.

    capabilities lists those that the subclass has. Files that are read are objects with read(n) and close(), whose close
    raises a Fault if the server has not confirmed the end. write returns an object with offset, write(bytes),
    commit() -> pb.Attr and abort(keep) -> bytes that resume it; if it has checkpoint() -> such bytes, it may be called
    while write runs, and is for the day that a process dies.
    """

    capabilities = pb.Capabilities()

    def _none(self, *_):
        raise Fault(Kind.UNSUPPORTED, "this server cannot do it for this user")

    stat = read = list = write = rename = remove = mkdir = checksum = _none

    def close(self):
        pass


def check(name):
    """A name of the contract: a CR or LF in one would end a command of some protocols."""
    elements = name[1:].split("/") if name != "/" else []
    if not name.startswith("/") or len(name.encode()) > 4096 or any(c < " " or c == "\x7f" for c in name) or any(e in ("", ".", "..") for e in elements):
        raise Fault(Kind.INVALID, "it begins with a slash, has at most 4096 bytes, and no empty, . and .. elements or control characters")


class Writing:
    """A file that the host writes: its bytes come in a call of WriteStream, its end in one of Commit or Abort."""

    def __init__(self, session, staged, size):
        self.session, self.staged, self.size = session, staged, size
        self.stream, self.bytes, self.error = None, 0, None
        self.fed = threading.Event()  # no more bytes come
        self.turn = threading.Lock()  # of Commit and Abort
        self.attr = self.kept = None  # committed, aborted


class Service:
    """The methods of spec/bridgepb/bridge.proto, but for Read, which needs descriptors, and Copy."""

    MOST = 32704  # bytes of a chunk

    def __init__(self, description, driver):
        self.description, self.driver = description, driver
        self.lock = threading.Condition()
        self.numbers, self.sessions, self.writes, self.finished = itertools.count(1), {}, {}, collections.deque()
        self.draining = False

    def session(self, number, *names):
        for name in names:
            check(name)
        with self.lock:
            if number not in self.sessions:
                raise Fault(Kind.STALE, f"this plugin has no session {number}")
            return self.sessions[number]

    def Describe(self, r, context):
        return self.description

    def Drain(self, r, context):
        with self.lock:
            self.draining = True
            if not self.lock.wait_for(lambda: not self.sessions, context.time_remaining()):
                raise Fault(Kind.DEADLINE, f"{len(self.sessions)} sessions are still open")
        return pb.DrainReply()

    def Open(self, r, context):
        if self.draining:
            raise Fault(Kind.DRAINING, "this plugin is being stopped")
        session = self.driver(r)
        if not context.is_active():  # nobody is left who would close it
            session.close()
            raise Fault(Kind.CANCELED, "the host has given up waiting")
        with self.lock:
            number = next(self.numbers)
            self.sessions[number] = session
        return pb.OpenReply(session=number, capabilities=session.capabilities)

    def Close(self, r, context):
        with self.lock:
            session = self.sessions.pop(r.session, None)
            left = [w for w in self.writes.values() if w.session is session]
            self.writes = {n: w for n, w in self.writes.items() if w.session is not session}
            self.lock.notify_all()
        for w in left:
            with contextlib.suppress(Fault, OSError):
                self.abort(w, False)
        if session:
            session.close()
        return pb.CloseReply()

    def Stat(self, r, context):
        return self.session(r.session, r.name).stat(r.name)

    def List(self, r, context):
        entries = iter(self.session(r.session, r.name).list(r.name))
        while some := list(itertools.islice(entries, 256)):
            yield pb.ListReply(entries=some)

    def Rename(self, r, context):
        self.session(r.session, getattr(r, "from"), r.to).rename(getattr(r, "from"), r.to)
        return pb.RenameReply()

    def Remove(self, r, context):
        self.session(r.session, r.name).remove(r.name)
        return pb.RemoveReply()

    def Mkdir(self, r, context):
        self.session(r.session, r.name).mkdir(r.name)
        return pb.MkdirReply()

    def Checksum(self, r, context):
        session = self.session(r.session, r.name)
        if r.algorithm not in session.capabilities.checksums:
            raise Fault(Kind.UNSUPPORTED, "the server does not compute it")
        return pb.ChecksumReply(sum=session.checksum(r.name, r.algorithm, r.length))

    def ReadStream(self, r, context):
        session, sent = self.session(r.session, r.name), 0
        if r.offset < 0:
            raise Fault(Kind.INVALID, f"offset {r.offset}")
        if r.offset > 0 and not session.capabilities.offsets:
            raise Fault(Kind.UNSUPPORTED, "this server reads files from their beginning only")
        with contextlib.closing(session.read(r.name, r.offset)) as file:
            while piece := file.read(self.MOST):
                if 0 <= r.quota < sent + len(piece):  # no byte beyond it
                    yield pb.Chunk(data=piece[: r.quota - sent])
                    raise Fault(Kind.QUOTA, f"there are more than {r.quota} bytes")
                sent += len(piece)
                yield pb.Chunk(data=piece)

    def Write(self, r, context):
        session = self.session(r.session, r.name)
        if r.resume and not session.capabilities.resume:
            raise Fault(Kind.UNSUPPORTED, "this server cannot go on with a file")
        w = Writing(session, session.write(r.name, r.size, r.resume), r.size)
        with self.lock:
            number = next(self.numbers)
            self.writes[number] = w
        if not context.is_active():  # nobody is left who would end it
            self.abort(w, False)
        return pb.WriteReply(write=number, offset=w.staged.offset)

    def writing(self, number):
        with self.lock:
            if number not in self.writes:
                raise Fault(Kind.STALE, f"this plugin has no write {number}")
            return self.writes[number]

    def WriteStream(self, chunks, context):
        first = next(chunks, None)
        if first is None:
            raise Fault(Kind.INVALID, "the first message names the write")
        w = self.writing(first.write)
        with self.lock:
            if w.stream or w.fed.is_set():
                raise Fault(Kind.INVALID, "the bytes of this write have come already")
            w.stream = context
        try:
            for chunk in itertools.chain([first], chunks):
                w.staged.write(chunk.data)
                w.bytes += len(chunk.data)
        except Exception as e:
            w.error = e
            raise
        finally:
            w.fed.set()
        return pb.WriteStreamReply(bytes=w.bytes)

    def wait(self, w, seconds):
        """Whether no more bytes come. None have, and none will, of an empty file whose stream has not begun."""
        with self.lock:
            if not w.stream:
                w.fed.set()
        return w.fed.wait(seconds)

    def over(self, number):
        """A call may be repeated, and says the same: the last writes are remembered."""
        with self.lock:
            self.finished.append(number)
            if len(self.finished) > 1024:
                self.writes.pop(self.finished.popleft(), None)

    def Commit(self, r, context):
        w = self.writing(r.write)
        with w.turn:
            if w.attr:
                return w.attr
            if w.kept is not None:
                raise Fault(Kind.STALE, "the write was aborted")
            if not self.wait(w, context.time_remaining()):
                raise Fault(Kind.DEADLINE, "the bytes have not come")
            if w.error:
                raise w.error
            if r.bytes < 0:
                raise Fault(Kind.LOST, f"the channel broke after {w.bytes} bytes")
            if w.bytes != r.bytes:
                raise Fault(Kind.CORRUPT, f"{w.bytes} bytes came of the {r.bytes} that were sent")
            if w.size >= 0 and w.staged.offset + w.bytes != w.size:
                raise Fault(Kind.CORRUPT, f"the file has {w.staged.offset + w.bytes} bytes, it was to have {w.size}")
            w.attr = w.staged.commit()
            self.over(r.write)
            return w.attr

    def Abort(self, r, context):
        w = self.writing(r.write)
        kept = self.abort(w, r.keep)
        self.over(r.write)
        return pb.AbortReply(resume=kept)

    def Checkpoint(self, r, context):
        w = self.writing(r.write)
        return pb.CheckpointReply(resume=w.staged.checkpoint() if hasattr(w.staged, "checkpoint") else b"")

    def abort(self, w, keep):
        with w.turn:
            if w.attr:
                raise Fault(Kind.STALE, "the file was committed")
            if w.kept is None:
                if not self.wait(w, 2 if keep else 0):  # what is kept may still be on its way
                    w.stream.cancel()
                    w.fed.wait()
                w.kept = w.staged.abort(keep) or b""
            return w.kept


def guarded(method):
    """The method with its errors as a status whose only detail is a Failure."""

    def fail(context, e):
        if isinstance(e, grpc.RpcError):  # of the messages that come
            e = Fault(Kind.LOST, "the host has given the call up")
        if isinstance(e, OSError):
            e = Fault(ERRNO.get(e.errno, Kind.IO), e.strerror or str(e))
        if not isinstance(e, Fault):
            log("ERROR", "the driver has raised an exception", stack="".join(traceback.format_exception(e)))
            e = Fault(Kind.INTERNAL, f"the driver has raised {e!r}", "tell who has made the plugin; its log has the stack")
        detail = any_pb2.Any()
        detail.Pack(pb.Failure(kind=e.kind, side=e.side, op=method.__name__.lower(), text=e.text, code=e.code, advice=e.advice))
        code, text = grpc.StatusCode.UNKNOWN, e.text
        # google.rpc.Status by hand: code, message and details are its fields 1 to 3.
        status = b"\x08" + varint(code.value[0]) + b"".join(tag + varint(len(b)) + b for tag, b in ((b"\x12", text.encode()), (b"\x1a", detail.SerializeToString())))
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(code, text)

    def one(request, context):
        try:
            return method(request, context)
        except Exception as e:
            failed = e
        fail(context, failed)

    def several(request, context):
        try:
            yield from method(request, context)
            return
        except Exception as e:
            failed = e
        fail(context, failed)

    return one, several


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def handlers(service):
    """What grpc's generated code would be, from the descriptor in bridge_pb2."""
    made = {}
    for method in pb.DESCRIPTOR.services_by_name["Bridge"].methods:
        of = descriptor_pb2.MethodDescriptorProto()
        method.CopyToProto(of)
        if hasattr(service, method.name):
            kinds = ["stream" if streams else "unary" for streams in (of.client_streaming, of.server_streaming)]
            make = getattr(grpc, "{}_{}_rpc_method_handler".format(*kinds))
            made[method.name] = make(guarded(getattr(service, method.name))[of.server_streaming],
                                     getattr(pb, method.input_type.name).FromString, lambda reply: reply.SerializeToString())
    return grpc.method_handlers_generic_handler("pannier.bridge.v1.Bridge", made)


def health():
    """The host kills a plugin that does not answer this. The reply is a HealthCheckResponse: SERVING."""
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(lambda *_: b"\x08\x01")})


def log(level, text, **fields):
    """A line of standard error is a record of the host."""
    print(json.dumps({"time": datetime.datetime.now(datetime.timezone.utc).isoformat(), "level": level, "msg": text, **fields}), file=sys.stderr, flush=True)


def certificate():
    """A key and its own certificate, for this process only: PEM of both, and the certificate's bytes."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.utcnow()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1)).not_valid_after(now + datetime.timedelta(days=10000))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False).sign(key, hashes.SHA256()))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, made.public_bytes(serialization.Encoding.PEM), made.public_bytes(serialization.Encoding.DER)


def leased(socket):
    """Nothing comes on descriptor 0. When it ends, the host is gone or done: so is this process, with its children and its socket."""
    while os.read(0, 4096):
        pass
    with contextlib.suppress(OSError):
        os.unlink(socket)
        os.rmdir(os.path.dirname(socket))
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def serve(name, version, schemes, driver, options=()):
    """The main function of a plugin: driver makes a Session of a pb.OpenRequest. It does not return."""
    if os.environ.get("PANNIER_BRIDGE") != "f3b1c9d0-speaks-another-protocol":
        print(f"{sys.argv[0]} is the plugin {name} {version} of Pannier: it is run by a node, or by: pannier plugin verify", file=sys.stderr)
        sys.exit(2)
    for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # which a service manager sends to all
        signal.signal(s, signal.SIG_IGN)
    socket = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "bridge")
    threading.Thread(target=leased, args=(socket,), daemon=True).start()
    service = Service(pb.DescribeReply(version=1, name=name, plugin_version=version, schemes=schemes, options=options), driver)
    # Each call has a thread; one that waits must not keep the others, or the health check, from theirs.
    server = grpc.server(futures.ThreadPoolExecutor(1000))
    server.add_generic_rpc_handlers((handlers(service), health()))
    key, mine, der = certificate()
    host = os.environ["PLUGIN_CLIENT_CERT"].encode()
    server.add_secure_port("unix:" + socket, grpc.ssl_server_credentials([(key, mine)], host, require_client_auth=True))
    server.start()
    print(f"1|1|unix|{socket}|grpc|{base64.b64encode(der).decode().rstrip('=')}", flush=True)
    sys.stdout = sys.stderr
    server.wait_for_termination()
