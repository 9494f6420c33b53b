package sftp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// codes are those of STATUS: of version 3, and of later versions, which servers send too.
var codes = map[uint32]struct {
	name string
	kind fault.Kind
}{
	1:  {"SSH_FX_EOF", fault.Invalid},
	2:  {"SSH_FX_NO_SUCH_FILE", fault.NotFound},
	3:  {"SSH_FX_PERMISSION_DENIED", fault.Permission},
	4:  {"SSH_FX_FAILURE", fault.IO},
	5:  {"SSH_FX_BAD_MESSAGE", fault.Invalid}, // what OpenSSH says of names that are too long
	6:  {"SSH_FX_NO_CONNECTION", fault.Lost},
	7:  {"SSH_FX_CONNECTION_LOST", fault.Lost},
	8:  {"SSH_FX_OP_UNSUPPORTED", fault.Unsupported},
	9:  {"SSH_FX_INVALID_HANDLE", fault.Stale},
	10: {"SSH_FX_NO_SUCH_PATH", fault.NotFound},
	11: {"SSH_FX_FILE_ALREADY_EXISTS", fault.Exists},
	12: {"SSH_FX_WRITE_PROTECT", fault.Permission},
	13: {"SSH_FX_NO_MEDIA", fault.IO},
	14: {"SSH_FX_NO_SPACE_ON_FILESYSTEM", fault.NoSpace},
	15: {"SSH_FX_QUOTA_EXCEEDED", fault.NoSpace},
	16: {"SSH_FX_UNKNOWN_PRINCIPAL", fault.Permission},
	17: {"SSH_FX_LOCK_CONFLICT", fault.Overloaded},
	18: {"SSH_FX_DIR_NOT_EMPTY", fault.Invalid},
	19: {"SSH_FX_NOT_A_DIRECTORY", fault.Invalid},
	20: {"SSH_FX_INVALID_FILENAME", fault.Invalid},
	21: {"SSH_FX_LINK_LOOP", fault.Invalid},
	22: {"SSH_FX_CANNOT_DELETE", fault.Permission},
	23: {"SSH_FX_INVALID_PARAMETER", fault.Invalid},
	24: {"SSH_FX_FILE_IS_A_DIRECTORY", fault.Invalid},
	25: {"SSH_FX_BYTE_RANGE_LOCK_CONFLICT", fault.Overloaded},
	26: {"SSH_FX_BYTE_RANGE_LOCK_REFUSED", fault.Overloaded},
	27: {"SSH_FX_DELETE_PENDING", fault.Overloaded},
	28: {"SSH_FX_FILE_CORRUPT", fault.IO},
}

const (
	codeEOF         = 1
	codeNoFile      = 2
	codeFailure     = 4
	codeBadMessage  = 5
	codeUnsupported = 8
)

// words are what servers say beside SSH_FX_FAILURE, which says nothing.
var words = []struct {
	kind fault.Kind
	any  []string
}{
	{fault.NoSpace, []string{"quota", "no space", "disk full", "not enough space", "insufficient"}},
	{fault.Exists, []string{"already exists", "file exists"}},
	{fault.Invalid, []string{"is a directory", "not a directory", "not empty", "too long"}},
	{fault.Permission, []string{"permission", "denied", "read-only", "read only", "not allowed", "forbidden"}},
	{fault.NotFound, []string{"no such file", "not found", "does not exist"}},
	{fault.Overloaded, []string{"too many", "busy", "try again"}},
}

func kindOf(code uint32, text string) fault.Kind {
	c, ok := codes[code]
	if !ok {
		return fault.Protocol
	}
	if code == codeFailure {
		text = strings.ToLower(text)
		for _, w := range words {
			for _, s := range w.any {
				if strings.Contains(text, s) {
					return w.kind
				}
			}
		}
	}
	return c.kind
}

// advice is what to change, for the user of the endpoint.
func advice(kind fault.Kind) string {
	switch kind {
	case fault.NotFound:
		return "check the name, and that it is below the endpoint's base"
	case fault.Permission:
		return "let the user do this at the server, or use another directory"
	case fault.NoSpace:
		return "make room at the server, or raise the user's quota there"
	case fault.Exists:
		return "remove the older file at the server, or set replace=delete"
	case fault.Invalid:
		return "name a file where a file is wanted and a directory where a directory is, and give names that the server's file system can have"
	case fault.Unsupported:
		return "the server cannot do this; use another way, or another server"
	case fault.IO:
		return "the server does not say why; its log may: a full or broken disk, a quota, a limit, or something else than a file"
	case fault.Overloaded:
		return "wait until others have left the server, or the file alone, or set connections lower"
	case fault.Protocol:
		return noServer
	}
	return ""
}

// noServer is what to do about a server that breaks the protocol.
const noServer = "this is no server of SFTP version 3; update it, or use another protocol"

// at is the subject of errors: the server and the file there.
func (c *conn) at(path string) string { return c.s.where + path }

// refused is the error of a STATUS.
func (c *conn) refused(op, path string, code uint32, text string) error {
	kind := kindOf(code, text)
	if kind == fault.NoSpace {
		c.noRoom.Store(true)
	}
	name := codes[code].name
	if name == "" {
		name = "SSH_FX " + strconv.FormatUint(uint64(code), 10)
	}
	err := plugins.Failure("sftp "+op, kind, c.at(path), name, text)
	if e, ok := errors.AsType[*fault.Error](err); ok {
		e.Advice = advice(kind)
	}
	return err
}

// said is the error of what this end concluded from what the server did.
func (c *conn) said(kind fault.Kind, op, path, format string, args ...any) *fault.Error {
	return &fault.Error{Op: "sftp " + op, Kind: kind, Side: fault.Inferred, Subject: c.at(path), Err: fmt.Errorf(format, args...)}
}

// lostOf is the error of a request whose connection has ended. c.mu is held.
func (c *conn) lostOf(op, path string) error {
	return failed(context.Background(), op, c.at(path), c.why)
}

// failed is the error of a connection, or of a wait that was given up.
func failed(ctx context.Context, op, where string, err error) error {
	e := &fault.Error{Op: "sftp " + op, Kind: fault.Lost, Side: fault.Inferred, Subject: where, Err: err}
	ours, isOurs := errors.AsType[*fault.Error](err)
	switch {
	case ctx.Err() != nil:
		e.Kind, e.Side, e.Err = fault.KindOf(ctx.Err()), fault.Here, ctx.Err()
	case isOurs:
		e.Kind, e.Side = ours.Kind, ours.Side
		e.Advice = ours.Advice
		if e.Advice != "" { // said once
			bare := *ours
			bare.Advice = ""
			e.Err = &bare
		}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		e.Kind = fault.DeadPeer
	}
	return e
}

// is says whether a server has refused with that code.
func is(err error, code uint32) bool {
	n, ok := errors.AsType[plugins.Native](err)
	return ok && n.Code == codes[code].name
}
