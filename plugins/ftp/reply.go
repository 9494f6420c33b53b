package ftp

import (
	"bufio"
	"errors"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// The most that one reply may have. FEAT of real servers has some 50 lines.
const (
	maxLine  = 8 << 10
	maxLines = 2000
	maxReply = 256 << 10
)

// reply is what a server answers a command with.
type reply struct {
	code  int
	lines []string // without the code where they had it; at least one
}

// text is the reply in one line, for people.
func (r reply) text() string {
	s := strings.Join(r.lines[:min(len(r.lines), 4)], " / ")
	return s[:min(len(s), 400)]
}

func (r reply) good() bool { return r.code >= 200 && r.code < 300 }

// readReply reads one reply, of one line ("220 ready") or of several ("220-hello", ...,
// "220 ready"). An error of kind Protocol is the server's, others are the connection's.
func readReply(r *bufio.Reader) (reply, error) {
	var got reply
	total := 0
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return got, fault.New("reply", fault.Protocol, "a line of a reply is longer than %d bytes", maxLine)
		}
		if err != nil {
			return got, err
		}
		text := strings.TrimRight(string(line), "\r\n")
		code, more, ok := splitReply(text)
		switch {
		case got.lines == nil && !ok:
			return got, fault.New("reply", fault.Protocol, "this is no reply of FTP: %s", fault.Shown(text[:min(len(text), 80)]))
		case got.lines == nil:
			got.code = code
			got.lines = append(got.lines, text[min(4, len(text)):])
			if !more {
				return got, nil
			}
		case ok && code == got.code:
			got.lines = append(got.lines, text[min(4, len(text)):])
			if !more {
				return got, nil
			}
		default:
			got.lines = append(got.lines, text)
		}
		if total += len(text); len(got.lines) > maxLines || total > maxReply {
			return got, fault.New("reply", fault.Protocol, "a reply has more than %d lines or %d bytes", maxLines, maxReply)
		}
	}
}

// splitReply is the code of a line, and whether more lines follow.
func splitReply(line string) (code int, more, ok bool) {
	if len(line) < 3 || line[0] < '1' || line[0] > '6' {
		return 0, false, false
	}
	code, err := strconv.Atoi(line[:3])
	if err != nil {
		return 0, false, false
	}
	if len(line) == 3 {
		return code, false, true
	}
	return code, line[3] == '-', line[3] == ' ' || line[3] == '-'
}

// quotedPath is the path of 257 "/a ""b""" created.
func quotedPath(text string) (string, bool) {
	_, rest, ok := strings.Cut(text, `"`)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		if rest[i] != '"' {
			b.WriteByte(rest[i])
			continue
		}
		if i+1 < len(rest) && rest[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		return b.String(), b.Len() > 0
	}
	return "", false
}

// extendedPort is the port of 229 Entering (|||6446|). Where an address is between the
// bars, it is none: the data connection goes to the host of the control connection.
func extendedPort(text string) (uint16, bool) {
	_, rest, ok := strings.Cut(text, "(")
	in, _, closed := strings.Cut(rest, ")")
	if !ok || !closed || len(in) < 5 {
		return 0, false
	}
	bar := in[:1]
	f := strings.Split(in, bar)
	if len(f) != 5 || f[0] != "" || f[1] != "" || f[2] != "" || f[4] != "" {
		return 0, false
	}
	p, err := strconv.ParseUint(f[3], 10, 16)
	return uint16(p), err == nil && p >= minPort
}

// passivePort is the port of 227 Entering (h1,h2,h3,h4,p1,p2). The address is not looked at.
func passivePort(text string) (uint16, bool) {
	isNumber := func(r rune) bool { return r >= '0' && r <= '9' || r == ',' }
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return !isNumber(r) }) {
		n := strings.Split(f, ",")
		if len(n) != 6 {
			continue
		}
		hi, err1 := strconv.ParseUint(n[4], 10, 8)
		lo, err2 := strconv.ParseUint(n[5], 10, 8)
		p := uint16(hi<<8 | lo)
		return p, err1 == nil && err2 == nil && p >= minPort
	}
	return 0, false
}

// minPort is the least port a data connection goes to. A server that names a lower one
// would have somebody speak to another service of its host.
const minPort = 1024
