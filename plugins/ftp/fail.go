package ftp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// words are what servers say in replies whose code says little, as 550.
var words = []struct {
	kind fault.Kind
	any  []string
}{
	{fault.NotFound, []string{"no such file", "no such dir", "not found", "does not exist", "doesn't exist", "cannot find", "can't find", "can't check for file existence"}},
	{fault.NoSpace, []string{"quota", "no space", "disk full", "not enough space", "insufficient"}},
	{fault.Permission, []string{"permission", "not permitted", "denied", "read-only", "read only", "forbidden", "prohibited", "not allowed"}},
	{fault.Exists, []string{"already exists", "file exists"}},
	{fault.Invalid, []string{"is a directory", "not a directory", "not a regular file", "not a plain file", "only retrieve regular files", "not empty"}},
	{fault.Overloaded, []string{"too many", "busy", "try again", "in use", "maximum number"}},
}

// A server that is full says so to a login, too, and one that has counted wrong passwords has
// words that are much like those.
var (
	isFull    = regexp.MustCompile(`too many|busy|try again|in use|\bmax(imum)?\b|\blimit\b|\bis full\b`)
	isRefused = regexp.MustCompile(`attempt|fail|incorrect|invalid|wrong|password|passwd|lock|disabled|denied|unknown|banned`)
)

// notNow says whether a login was not let in because the server is full.
func (r reply) notNow() bool {
	text := strings.ToLower(r.text())
	return isFull.MatchString(text) && !isRefused.MatchString(text)
}

// kindOf is what sort of failure a reply is to a command.
func kindOf(command string, r reply) fault.Kind {
	text := strings.ToLower(r.text())
	said := func(only ...fault.Kind) (fault.Kind, bool) {
		for _, w := range words {
			for _, s := range w.any {
				if strings.Contains(text, s) {
					for _, k := range only {
						if k == w.kind {
							return k, true
						}
					}
					if only == nil {
						return w.kind, true
					}
				}
			}
		}
		return 0, false
	}
	switch r.code {
	case 421, 120:
		if k, ok := said(fault.Overloaded); ok {
			return k
		}
		return fault.Draining
	case 425, 426:
		return fault.Lost
	case 430, 530, 332, 532:
		switch {
		case r.notNow():
			return fault.Overloaded
		case command != "USER" && command != "PASS":
			return fault.Permission
		}
		return fault.Unauthenticated
	case 422, 452, 552:
		return fault.NoSpace
	case 500, 502, 504, 534, 536:
		return fault.Unsupported
	case 501:
		return fault.Invalid
	case 503:
		return fault.Protocol
	case 521, 522, 533, 535, 550, 551, 553, 450, 451:
		if k, ok := said(); ok {
			return k
		}
		switch {
		case r.code == 450 || r.code == 451:
			return fault.IO
		case r.code == 550 && strings.Contains("RETR SIZE MDTM MLST MLSD LIST CWD RNFR DELE RMD HASH XSHA256 XSHA512 XSHA1 XSHA XMD5 XCRC", command):
			return fault.NotFound
		}
		return fault.Permission
	}
	if r.code >= 400 && r.code < 500 {
		return fault.IO
	}
	if r.code >= 500 {
		return fault.Refused
	}
	return fault.Protocol
}

// unnamed is the reply without the name of the file, which most servers repeat, and in which may be any
// of the words: "denied-claims.csv: overloaded" denies nothing. It is for kindOf, not for people.
func (r reply) unnamed(file string) reply {
	if path.Base(file) == "." || path.Base(file) == "/" {
		return r
	}
	var names []string // the longer first; some servers say it without the first slash
	for _, n := range []string{file, strings.TrimPrefix(file, "/"), path.Base(file)} {
		n = strings.ToLower(n)
		names = append(names, strings.ReplaceAll(n, `"`, `""`), n)
	}
	lines := make([]string, min(len(r.lines), 4)) // text takes no more
	for i := range lines {
		lines[i] = strings.ToLower(r.lines[i])
		for _, n := range names {
			lines[i] = without(lines[i], n)
		}
	}
	return reply{r.code, lines}
}

// without is text in which a name is a byte that is in no word. What is only a part of a longer word stays,
// and what is only a part of what servers say: of a file a, "is a directory" says that still.
func without(text, name string) string {
	first, _ := utf8.DecodeRuneInString(name)
	last, _ := utf8.DecodeLastRuneInString(name)
	var b strings.Builder
	done := 0
	for at := 0; ; {
		i := strings.Index(text[at:], name)
		if i < 0 {
			b.WriteString(text[done:])
			return b.String()
		}
		i += at
		end := i + len(name)
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[end:])
		if inWord(before) && inWord(first) || inWord(last) && inWord(after) || inWords(text, i, end) {
			at = i + 1
			continue
		}
		b.WriteString(text[done:i])
		b.WriteByte(0)
		done, at = end, end
	}
}

// inWord says whether a rune can be in a word; of bytes that are not UTF-8, and where the text ends, none is.
func inWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// inWords says whether text[from:to] is less than all of one of the words that are there.
func inWords(text string, from, to int) bool {
	for _, w := range words {
		for _, s := range w.any {
			for k := 0; k+to-from <= len(s) && to-from < len(s); k++ {
				if k <= from && strings.HasPrefix(text[from-k:], s) {
					return true
				}
			}
		}
	}
	return false
}

// advice is what to change after a reply, for the user of the endpoint.
func advice(kind fault.Kind, command string, r reply) string {
	switch {
	case r.code == 522:
		return "the server demands that data connections continue the TLS session of the control connection, which no other server can: set require_ssl_reuse=NO there (vsftpd), or TLSOptions NoSessionReuseRequired (proftpd)"
	case r.code == 534 || r.code == 536 || r.code == 533 || r.code == 521:
		return "the server wants another protection of data connections; change tls of the endpoint"
	case kind == fault.Unauthenticated:
		return "correct user and password in the credentials of the endpoint"
	case command == "PASS" || command == "USER":
		return "the server lets this user not in now"
	case command == "AUTH":
		return "the server has no TLS; allow it there, or set tls=off if what is sent may be read by all"
	case r.code == 425:
		return dataPorts
	}
	switch kind {
	case fault.NotFound:
		return "check the name, and that it is below the endpoint's base; the server says the same of files that the user may not read"
	case fault.Permission:
		return "let the user do this at the server, or use another directory"
	case fault.IO:
		if command == "STOR" || command == "APPE" { // of a full disk or quota, three servers of three say no more than that they could not write
			return "make room at the server, or raise the user's quota there, if one of them is what it lacks; otherwise its log says what is wrong with it"
		}
		return "the server's log says what is wrong with it"
	case fault.NoSpace:
		return "make room at the server, or raise the user's quota there"
	case fault.Exists:
		return "remove the older file at the server, or set replace=delete"
	case fault.Invalid:
		return "name a file where a file is wanted, and a directory where a directory is"
	case fault.Unsupported:
		return "the server does not know the command; use another way, or another server"
	case fault.Overloaded:
		return "wait until others have left the server, or set connections lower"
	case fault.Refused:
		return "ask the server's operator, or its log, why it says so"
	case fault.Protocol:
		return unruly
	}
	return ""
}

// unruly is what to do about a server that breaks the protocol.
const unruly = "the server does not keep to FTP: see that the endpoint is a server of FTP, and that nothing on the way changes what it says"

// dataPorts is what to do where no data connection comes about.
const dataPorts = "let this host reach the server's ports for data connections, its passive ports, from 1024 on"

// at is the subject of errors: the server and the file there.
func (c *conn) at(path string) string { return c.s.where + path }

// refused is the error of a reply: which command, where, on what.
func (c *conn) refused(command, path string, r reply) error {
	kind := kindOf(command, r.unnamed(path))
	if kind == fault.NoSpace {
		c.s.full.Store(true)
	}
	text := r.text()
	if command == "PASS" && c.s.password != "" { // some repeat the command that they refuse, and errors are written down
		text = strings.ReplaceAll(text, c.s.password, "...")
	}
	err := plugins.Failure("ftp "+command, kind, c.at(path), strconv.Itoa(r.code), text)
	var e *fault.Error
	if errors.As(err, &e) {
		e.Advice = advice(kind, command, r)
	}
	return err
}

// said is the error of what this end concluded from what the server did.
func (c *conn) said(kind fault.Kind, command, path, format string, args ...any) *fault.Error {
	e := &fault.Error{Op: "ftp " + command, Kind: kind, Side: fault.Inferred, Subject: c.at(path), Err: fmt.Errorf(format, args...)}
	if kind == fault.Protocol {
		e.Advice = unruly
	}
	return e
}

// lost ends the control connection, whose next reply would be of nobody knows what, and
// is the error of err.
func (c *conn) lost(ctx context.Context, command string, err error) error {
	c.kill()
	return failed(ctx, command, c.s.where, err)
}

// failed is the error of a connection.
func failed(ctx context.Context, command, where string, err error) error {
	e := &fault.Error{Op: "ftp " + command, Kind: fault.Lost, Side: fault.Inferred, Subject: where, Err: err}
	var ours *fault.Error
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var bad x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var shaken plugins.Unshaken
	switch {
	case ctx.Err() != nil:
		e.Kind, e.Side, e.Err = fault.KindOf(ctx.Err()), fault.Here, ctx.Err()
	case errors.As(err, &ours):
		if e.Kind = ours.Kind; e.Kind == fault.Protocol {
			e.Advice = unruly
		}
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &bad):
		e.Kind, e.Advice = fault.Unauthenticated, "the certificate is not one to trust: set ca to a file with its authority's, or pin to the SHA-256 of the certificate"
	case errors.As(err, &record):
		e.Kind, e.Advice = fault.Protocol, "the server does not speak TLS there; ftps begins with TLS, ftp with tls=explicit or require asks for it"
	case errors.As(err, &shaken) && shaken.Disagreed():
		e.Kind, e.Advice = fault.Unsupported, plugins.UnshakenAdvice
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		e.Kind = fault.DeadPeer
	}
	return e
}
