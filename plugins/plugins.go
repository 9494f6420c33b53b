package plugins

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pannier/pannier/spec/fault"
)

// A Driver speaks one protocol. Its methods may be called at the same time.
type Driver interface {
	// Describe says what the driver is, without reaching anybody.
	Describe() Description
	// Open logs in at a server. Whoever calls closes the session.
	Open(ctx context.Context, to Endpoint) (Session, error)
}

// Server is a Driver that serves foreign clients, too.
type Server interface {
	Driver
	// Listen serves the clients that connect to l until ctx ends: then it accepts no more,
	// tells those who are there, and returns when they are gone. It owns l, and serves from its
	// first Accept on. An error before that means that it cannot, as with options that make no
	// sense.
	//
	// The node is a Driver to it: Open lets a client in, whose session has what that client
	// may do. The Endpoint's URL is "guest://ADDRESS" of the client, User and Password what it
	// said, Secrets["key"] the public key that it has proved, as a line of authorized_keys;
	// "offered": one that it may prove, about which the answer is asked first. Who is not let
	// in gets fault.Unauthenticated. What a client has sent is the node's when Commit says
	// so, which may take until another node has it: its error is the client's answer.
	Listen(ctx context.Context, l net.Listener, options map[string]string, node Driver) error
}

// EndpointChecker is a Driver that tells what is wrong with the options of a bridge before it is used.
type EndpointChecker interface {
	// CheckEndpoint is about an endpoint with that URL, whoever logs in there. It reaches nobody and
	// reads no files: who asks may be another user than who uses them.
	CheckEndpoint(url string, options map[string]string) error
}

// ListenChecker is a Server that does so for the options of a listener, as EndpointChecker.
type ListenChecker interface {
	CheckListen(options map[string]string) error
}

// Description is what a driver says of itself.
type Description struct {
	Name    string   // as in plugin = "ftp": 1..32 of a-z 0-9 -
	Version string   // of the driver
	Schemes []string // of endpoints, as "ftp", "ftps"
	Options []Option // that an endpoint may have
	Listen  []Option // that a listener may have; of a Server
}

// Option is a setting of an endpoint beside its URL and credentials.
type Option struct {
	Name    string
	Help    string // one sentence
	Default string // "" = none
}

// Endpoint is a server and who one is there.
type Endpoint struct {
	URL      string            // "ftp://HOST[:PORT][/BASE]"; names are below BASE
	User     string            // from the credentials; never in the URL
	Password string            // the same
	Secrets  map[string]string // other credentials, as a private key in PEM
	Options  map[string]string // of Description.Options
}

// Capabilities is what a server can do for this user. A method that it does not
// list fails with fault.Unsupported.
type Capabilities struct {
	Offsets   bool     // Read from an offset
	Write     bool     // Session is a Writer
	Resume    bool     // Write goes on with what an Abort has kept
	Atomic    bool     // Commit replaces an older file of the name in one step
	List      bool     // Lister
	Rename    bool     // Renamer
	Remove    bool     // Remover
	Mkdir     bool     // Maker
	Checksums []string // that Checksummer can ask for: "sha256", "sha1", "md5", "crc32", "sha512"
	Copy      bool     // Copier, to a session of the same driver at another server
	Notes     []string // what a user should know, as "the server has no MLSD: times of LIST have minutes"
	// Kept, of a node to its Server: what an Abort has kept is remembered for this user and
	// name, since a client that comes again has no token: ResumeKept goes on with it.
	Kept bool
	// Single, of a driver: between Write and Commit or Abort, nothing else can be done in the
	// session. Who tries waits.
	Single bool
	// Times: what is written gets the time of WriteRequest.Modified, to the second, and what Copy
	// has copied that of its source.
	Times bool
	// Verdict, of a driver: the server confirms a file when what lies behind it has, as a listener
	// of another node. Commit takes as long as that, up to MaxVerdict: the driver does not limit it,
	// but sees to it that the server is there meanwhile.
	Verdict bool
}

// MaxVerdict is the most that the end of a file may take whose verdict is that of what lies behind
// the other side.
const MaxVerdict = 24 * time.Hour

// ResumeKept is the WriteRequest.Resume of sessions with Capabilities.Kept: where an earlier
// upload of this user to that name has ended. fault.NotFound: there is none, or a file has the
// name.
var ResumeKept = []byte("kept")

// MaxMark is the most bytes of a mark.
const MaxMark = 64

// ResumeMarked is the same for a program that tells its uploads apart by marks of its own: goes on
// with what was begun with the same mark, and begins if there is none.
func ResumeMarked(mark string) []byte { return []byte(string(ResumeKept) + " " + mark) }

// Marked is what a WriteRequest.Resume of such a session means.
func Marked(resume []byte) (mark string, err error) {
	rest, ok := strings.CutPrefix(string(resume), string(ResumeKept))
	if ok && rest == "" {
		return "", nil
	}
	if mark, ok = strings.CutPrefix(rest, " "); !ok || mark == "" || len(mark) > MaxMark {
		return "", fault.New("resume", fault.Invalid, "what is to be gone on with is not what this node has told")
	}
	return mark, nil
}

// Session is a login at one server. Its methods may be called at the same time; a
// driver whose protocol does one thing at a time makes further connections or has
// the callers wait. Names are those of CheckName.
type Session interface {
	Capabilities() Capabilities
	Stat(ctx context.Context, name string) (Attr, error)
	// Read returns the file's bytes from offset to its end. The reader's Close says
	// whether the server has confirmed that these were all: until it has returned
	// nil, they may have been cut off. The context is that of the bytes too: when it
	// ends, reading them fails.
	Read(ctx context.Context, name string, offset int64) (io.ReadCloser, error)
	Close() error
}

// Attr is a file or directory.
type Attr struct {
	Name     string // as given to Stat; of List the name in its directory
	Size     int64  // bytes; -1: the server does not say
	Modified time.Time
	Dir      bool
	// Verified, of Commit only: how far the driver has compared what the server has with
	// what was written, as "sha256" or "size"; "": not at all.
	Verified string
}

// Writer is a Session that takes files.
type Writer interface {
	// Write begins a file. Nobody sees it under its name before Commit. The context is
	// that of the bytes too: when it ends, writing them fails, but not Commit and
	// Abort, which have their own.
	Write(ctx context.Context, name string, w WriteRequest) (Staged, error)
}

// WriteRequest is how a file is written.
type WriteRequest struct {
	Size   int64  // of the whole file, bytes; -1: not known
	Resume []byte // what Abort has returned for this file; nil: from the beginning
	// ID is of what the file is sent for; "": of nothing. A driver can call by it what is beside
	// the name until Commit (PartID), so that a later Write finds it after a crash.
	ID string
	// Again, without Resume: an earlier Write of this name and ID may have left something there.
	// It is of no use, and this one sees to it that it goes.
	Again bool
	// Modified is the time that the file is to have, at servers with Capabilities.Times; zero: when
	// it is written. That it could not be set is no failure of the file.
	Modified time.Time
}

// MaxID is how many bytes a WriteRequest.ID may have.
const MaxID = 128

// PartID is a name for what is beside a file until it is whole, 12 digits: of an ID always the same,
// without one a random one.
func PartID(id string) string {
	sum := sha256.Sum256([]byte(id))
	if id == "" {
		_, _ = rand.Read(sum[:])
	}
	return hex.EncodeToString(sum[:6])
}

// Staged is a file that is being written. Write, then Commit or Abort.
type Staged interface {
	// Offset is where writing goes on, because the server has what is before: 0
	// unless WriteRequest.Resume was given.
	Offset() int64
	io.Writer
	// Commit ends the file, checks that the server has all of it, and gives it its
	// name. Called again it says the same.
	Commit(ctx context.Context) (Attr, error)
	// Abort ends it without a name. With keep the server keeps what it has, as far
	// as it can, and the result makes a later Write go on from there.
	Abort(ctx context.Context, keep bool) (resume []byte, err error)
}

// Checkpointer is a Staged that can be gone on with after a crash.
type Checkpointer interface {
	Staged
	// Checkpoint returns what makes a later Write go on if this one comes to no end. How
	// much the server has kept is seen then. It may be called while Write runs.
	Checkpoint(ctx context.Context) (resume []byte, err error)
}

// Lister is a Session that lists directories.
type Lister interface {
	// List yields the entries of a directory, without "." and "..". After an error
	// nothing more comes.
	List(ctx context.Context, dir string) iter.Seq2[Attr, error]
}

// Renamer is a Session that renames, replacing what has the name if it can.
type Renamer interface {
	Rename(ctx context.Context, from, to string) error
}

// Remover is a Session that deletes files and empty directories.
type Remover interface {
	Remove(ctx context.Context, name string) error
}

// Maker is a Session that makes directories. One that is there is no error.
type Maker interface {
	Mkdir(ctx context.Context, name string) error
}

// Checksummer is a Session that has the server compute a checksum of a file.
type Checksummer interface {
	// Checksum is of the first length bytes; -1: of all.
	Checksum(ctx context.Context, name, algorithm string, length int64) ([]byte, error)
}

// Copier is a Session that has its server send a file to another server.
type Copier interface {
	// Copy copies to a session that the same driver has made. It returns when both
	// servers have confirmed and what can be compared was. On failure the result is
	// of use too: its Resume makes a later Copy go on.
	Copy(ctx context.Context, name string, to Session, toName string, c CopyRequest) (CopyResult, error)
}

// Limiter is a Session that a host has opened in a plugin, whatever the driver.
type Limiter interface {
	// ReadAtMost is Read of a file that must not have more than quota bytes from
	// offset on: no more are delivered, and then it fails with fault.QuotaExceeded.
	ReadAtMost(ctx context.Context, name string, offset, quota int64) (io.ReadCloser, error)
}

// CopyRequest is how Copy does it.
type CopyRequest struct {
	Resume []byte // of an earlier CopyResult of the same copy, or that Progress was told
	// Progress is told what the destination has, first of all where the copy begins, and, when that has changed, what makes a
	// later Copy go on if this one comes to no end; may be nil.
	Progress func(offset int64, resume []byte)
}

// CopyResult is what Copy has done.
type CopyResult struct {
	Bytes    int64  // that the destination has of the file
	Verified string // how far the two were compared: "sha256", "size", "" for not at all
	Resume   []byte // after a failure: where to go on; nil: from the beginning
}

// MaxName is the most bytes of a name.
const MaxName = 4096

// CheckName says what is wrong with the name of a remote file: it begins with a
// slash, has no empty, "." or ".." elements, is UTF-8 and has no control
// characters, by which a line of a protocol would end early.
func CheckName(name string) error {
	bad := func(why string) error {
		return &fault.Error{Op: "check name", Kind: fault.Invalid, Subject: name, Err: fault.New("name", fault.Invalid, "%s", why)}
	}
	switch {
	case !strings.HasPrefix(name, "/"):
		return bad("it has to begin with a slash")
	case len(name) > MaxName:
		return bad("it is longer than 4096 bytes")
	case !utf8.ValidString(name):
		return bad("it is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return bad("it has control characters")
	}
	if name == "/" {
		return nil
	}
	for _, e := range strings.Split(name[1:], "/") {
		if e == "" || e == "." || e == ".." {
			return bad(`it has an empty element, "." or ".."`)
		}
	}
	return nil
}

// Failure is an error of a server, with what it said. Kinds that are retried are those
// the engine retries: Lost, DeadPeer, Deadline, Overloaded, Draining, IO.
func Failure(op string, kind fault.Kind, subject, code, text string) error {
	said := text
	if code != "" {
		said = code + " " + text
	}
	return &fault.Error{Op: op, Kind: kind, Side: fault.Peer, Subject: subject, Err: Native{Code: code, Text: string(fault.Shown(said))}}
}

// RefusedLogin says whether a server has refused a user. Another one of the same user and password
// may be counted there, and lock the account; but not one of a driver that has told the server
// nothing, because it does not trust that: such an error is fault.Inferred.
func RefusedLogin(err error) bool {
	e, ok := errors.AsType[*fault.Error](err)
	return ok && fault.KindOf(err) == fault.Unauthenticated && e.Side != fault.Inferred
}

// Native is what a server said, in the words of its protocol.
type Native struct {
	Code string // "550", "SSH_FX_FAILURE", "NoSuchKey"
	Text string // printable, with the code
}

func (n Native) Error() string { return n.Text }
