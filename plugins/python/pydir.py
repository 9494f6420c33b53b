"""A bridge to a directory of this host, pydir:///PATH, as plugins/dir is in Go: the example of one in Python.

Links are not followed as the last element of a name, and lead out of the directory nowhere; but serve none in
which others make links, because Python cannot open a path in one step.
"""

import hashlib, os, re, secrets, stat
from urllib.parse import unquote, urlsplit

from pannier_bridge import Fault, Kind, Session, pb, serve

UNFINISHED = ".pannier-"  # begins the names of files that are being written


def attr(name, st):
    return pb.Attr(name=name, size=st.st_size, modified=st.st_mtime_ns, dir=stat.S_ISDIR(st.st_mode))


class Dir(Session):
    capabilities = pb.Capabilities(offsets=True, write=True, resume=True, atomic=True, list=True, rename=True, remove=True, mkdir=True, checksums=["sha256"])

    def __init__(self, endpoint):
        url = urlsplit(endpoint.url)
        if url.scheme != "pydir" or url.netloc or not url.path.startswith("/"):
            raise Fault(Kind.INVALID, f"{endpoint.url!r} is no such endpoint", "write it as pydir:///PATH")
        self.root = os.path.realpath(unquote(url.path), strict=True)

    def at(self, name):
        """The path of a name."""
        if name == "/":
            return self.root
        folder, last = os.path.split(self.root + name)
        folder = os.path.realpath(folder)
        if os.path.commonpath([self.root, folder]) != self.root:
            raise Fault(Kind.PERMISSION, "a link leads out of the directory")
        return os.path.join(folder, last)

    def stat(self, name):
        return attr(name, os.lstat(self.at(name)))

    def read(self, name, offset):
        fd = os.open(self.at(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        file = open(fd, "rb", 0)
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode) or offset > st.st_size:
            file.close()
            raise Fault(Kind.INVALID, f"it is no file of at least {offset} bytes")
        file.seek(offset)
        return file

    def list(self, name):
        with os.scandir(self.at(name)) as entries:
            for e in entries:
                if not e.name.startswith(UNFINISHED) and not re.search("[\ud800-\udfff]", e.name):  # names that are not UTF-8 cannot be sent
                    yield attr(e.name, e.stat(follow_symlinks=False))

    def rename(self, old, new):
        os.replace(self.at(old), self.at(new))

    def remove(self, name):
        path = self.at(name)
        os.rmdir(path) if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink(path)

    def mkdir(self, name):
        os.makedirs(self.at(name), exist_ok=True)

    def checksum(self, name, algorithm, length):
        digest, left = hashlib.new(algorithm), length if length >= 0 else None
        with self.read(name, 0) as file:
            while block := file.read(1 << 18 if left is None else min(left, 1 << 18)):
                digest.update(block)
                left = None if left is None else left - len(block)
        if left:
            raise Fault(Kind.INVALID, f"it has less than {length} bytes")
        return digest.digest()

    def write(self, name, size, resume):
        return Part(self.at(name), name, resume)


class Part:
    """A file under a name of its own, until commit. What resumes it is that name, and how much of it is on disk."""

    def __init__(self, target, name, resume):
        self.target, self.name, self.folder = target, name, os.path.dirname(target)
        self.part, self.offset = UNFINISHED + secrets.token_hex(16), 0
        if resume:
            kept = re.fullmatch("(" + re.escape(UNFINISHED) + "[0-9a-f]{32})\n([0-9]{1,18})", resume.decode(errors="replace"), re.ASCII)
            if not kept:
                raise Fault(Kind.INVALID, "this is not of the file", "begin the file anew")
            self.part, self.offset = kept[1], int(kept[2])
        self.path = os.path.join(self.folder, self.part)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | (0 if resume else os.O_CREAT | os.O_EXCL), 0o666)
        self.file = open(fd, "ab", 1 << 18)
        if os.fstat(fd).st_size < self.offset:
            self.file.close()
            raise Fault(Kind.STALE, f"it has fewer than {self.offset} bytes", "begin the file anew")
        os.ftruncate(fd, self.offset)

    def write(self, piece):
        self.file.write(piece)

    def stored(self):
        self.file.flush()
        st = os.fstat(self.file.fileno())
        os.fsync(self.file.fileno())
        return st

    def checkpoint(self):
        return f"{self.part}\n{self.stored().st_size}".encode()

    def commit(self):
        with self.file:
            st = self.stored()
        os.replace(self.path, self.target)
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        return attr(self.name, st)

    def abort(self, keep):
        with self.file:
            if keep:
                return self.checkpoint()
        os.unlink(self.path)


if __name__ == "__main__":
    serve("pydir", "1", ["pydir"], Dir)
