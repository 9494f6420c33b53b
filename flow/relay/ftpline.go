package relay

// Lines of FTP's control connection, as text: nothing here knows a socket or a session.

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/pannier/pannier/spec/fault"
)

// Limits of a control connection.
const (
	maxFTPLine = 8 << 10 // bytes of a line with its end
	maxFTPVerb = 16      // bytes of a command's name
)

// Bytes of telnet, which FTP's control connection is.
const (
	telnetIAC  = 0xff
	telnetDM   = 0xf2 // the mark of a Synch
	telnetIP   = 0xf4 // interrupt process
	telnetSE   = 0xf0 // least code of a command of two bytes
	telnetWill = 0xfb // least code of one of three
)

// ftpInterrupt stands before an ABOR that is to be looked at during a transfer.
const ftpInterrupt = "\xff\xf4\xff\xf2"

// ftpLines reads lines.
type ftpLines struct{ in *bufio.Reader }

func newFTPLines(r io.Reader) ftpLines { return ftpLines{bufio.NewReaderSize(r, maxFTPLine)} }

// errLongLine: the line is over maxFTPLine, and has been read to its end.
var errLongLine = fault.New("read FTP line", fault.TooLong, "a line has at most %d bytes", maxFTPLine)

// next returns a line without its end, CR LF or LF, until the call after. A line that the
// end of the stream cuts off is none: half a command is another command.
func (l ftpLines) next() ([]byte, error) {
	line, err := l.in.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		for err == bufio.ErrBufferFull {
			_, err = l.in.ReadSlice('\n')
		}
		if err == nil {
			err = errLongLine
		}
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// ftpCommand is a line of a client's.
type ftpCommand struct {
	verb   string // in capitals
	arg    string
	text   string // the line as it came, without telnet
	urgent bool   // telnet stood before it
}

// parseFTPCommand reads a line. Invalid: it is to be refused. Protocol: whoever sends it does
// not speak FTP, as a browser that was led here.
func parseFTPCommand(line []byte) (c ftpCommand, err error) {
	for len(line) > 0 && (line[0] == telnetIAC || c.urgent && line[0] == telnetDM) {
		n := 1 // a mark alone, or what is left when the system has taken it out of the line
		switch {
		case line[0] != telnetIAC || len(line) < 2 || line[1] < telnetSE:
		case line[1] == telnetIAC:
			return c, fault.New("read FTP command", fault.Invalid, "it begins with a byte 255")
		case line[1] >= telnetWill:
			n = min(3, len(line))
		default:
			n = 2
			c.urgent = c.urgent || line[1] == telnetIP || line[1] == telnetDM
		}
		line = line[n:]
	}
	if i := bytes.IndexAny(line, "\x00\r"); i >= 0 || bytes.IndexByte(line, telnetIAC) >= 0 {
		return c, fault.New("read FTP command", fault.Invalid, "a NUL, a CR or a byte 255 is in the middle of it")
	}
	c.text = string(line)
	verb, arg, _ := strings.Cut(c.text, " ")
	if verb == "" {
		return c, fault.New("read FTP command", fault.Invalid, "it has no name")
	}
	if len(verb) > maxFTPVerb || strings.ContainsFunc(verb, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) {
		return c, fault.New("read FTP command", fault.Protocol, "%q is no command of FTP", fault.Shown(verb))
	}
	c.verb = strings.Clone(strings.ToUpper(verb)) // is kept until its reply comes, without the line
	c.arg = strings.TrimSpace(arg)
	return c, nil
}

// line is the command as it is sent on.
func (c ftpCommand) line() string {
	if c.urgent {
		return ftpInterrupt + c.text + "\r\n"
	}
	return c.text + "\r\n"
}

// passive reports whether the answer of a command is a port of the server's.
func (c ftpCommand) passive() bool { return c.verb == "PASV" || c.verb == "EPSV" && !c.isEPSVAll() }

func (c ftpCommand) isEPSVAll() bool { return strings.EqualFold(c.arg, "ALL") }

// ftpTransfers are the commands that have a data connection.
var ftpTransfers = []string{"RETR", "STOR", "STOU", "APPE", "LIST", "NLST", "MLSD"}

// address is the one that a PORT or EPRT names.
func (c ftpCommand) address() (netip.AddrPort, error) {
	bad := func() (netip.AddrPort, error) {
		return netip.AddrPort{}, fault.New("read FTP command", fault.Invalid, "%s does not name an address", fault.Shown(c.verb))
	}
	if c.verb == "PORT" {
		b, ok := sixBytes(strings.Split(c.arg, ","))
		if !ok {
			return bad()
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(b[4])<<8|uint16(b[5])), nil
	}
	if c.arg == "" {
		return bad()
	}
	f := strings.Split(c.arg, c.arg[:1])
	if len(f) != 5 || f[0] != "" || f[4] != "" {
		return bad()
	}
	a, err := netip.ParseAddr(f[2])
	port, ok := digits(f[3], 1<<16-1)
	if err != nil || !ok || a.Zone() != "" || a.Is4In6() || f[1] != ftpFamily(a) {
		return bad()
	}
	return netip.AddrPortFrom(a, uint16(port)), nil
}

// ftpFamily is what EPRT and EPSV call an address's family.
func ftpFamily(a netip.Addr) string {
	if a.Is4() {
		return "1"
	}
	return "2"
}

// digits reads a decimal number without sign.
func digits(s string, most int) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return int(n), err == nil && n <= uint64(most) && len(s) <= 5
}

func sixBytes(f []string) (b [6]byte, ok bool) {
	if len(f) != len(b) {
		return b, false
	}
	for i := range b {
		n, ok := digits(f[i], 255)
		if !ok {
			return b, false
		}
		b[i] = byte(n)
	}
	return b, true
}

// activeCommand is a PORT or EPRT with another address.
func activeCommand(verb string, at netip.AddrPort) string {
	a := at.Addr()
	if verb == "PORT" && a.Is4() {
		return "PORT " + fourAndTwo(at) + "\r\n"
	}
	return fmt.Sprintf("EPRT |%s|%s|%d|\r\n", ftpFamily(a), a.WithZone(""), at.Port())
}

func fourAndTwo(at netip.AddrPort) string {
	b, p := at.Addr().As4(), at.Port()
	return fmt.Sprintf("%d,%d,%d,%d,%d,%d", b[0], b[1], b[2], b[3], p>>8, p&255)
}

// passiveReply is the answer to a PASV or EPSV with another address.
func passiveReply(verb string, at netip.AddrPort) string {
	if verb == "PASV" {
		return "227 Entering Passive Mode (" + fourAndTwo(at) + ").\r\n"
	}
	return fmt.Sprintf("229 Entering Extended Passive Mode (|||%d|)\r\n", at.Port())
}

// Replies that name a port of the server's.
const (
	ftpPassive  = 227
	ftpExtended = 229
)

var (
	passiveAddress = regexp.MustCompile(`(\d+),(\d+),(\d+),(\d+),(\d+),(\d+)`)
	extendedPort   = regexp.MustCompile(`\(([!-~])([!-~])([!-~])(\d+)([!-~])\)`)
)

// passivePort is the port that a 227 or 229 names. Its address means nothing.
func passivePort(code int, line string) (uint16, bool) {
	if code == ftpPassive {
		m := passiveAddress.FindStringSubmatch(line)
		if m == nil {
			return 0, false
		}
		b, ok := sixBytes(m[1:])
		return uint16(b[4])<<8 | uint16(b[5]), ok
	}
	m := extendedPort.FindStringSubmatch(line)
	if m == nil || m[1] != m[2] || m[2] != m[3] || m[3] != m[5] {
		return 0, false
	}
	port, ok := digits(m[4], 1<<16-1)
	return uint16(port), ok
}

// mayCarry reports whether a data connection may lead to a port: not to services that have
// one of their own, but to FTP's.
func mayCarry(port uint16) bool { return port >= 1024 || port == 20 }

// ftpReplies follows the lines of a server's through replies of several.
type ftpReplies struct{ open int } // code of the reply of several lines that has begun; 0: none

// next says which reply a line ends; 0: none, as it is in the middle of one.
func (r *ftpReplies) next(line []byte) (code int) {
	if len(line) < 3 {
		return 0
	}
	code, ok := digits(string(line[:3]), 599)
	last := len(line) == 3 || line[3] == ' '
	switch {
	case !ok || code < 100:
		return 0
	case r.open != 0:
		if !last || code != r.open {
			return 0
		}
		r.open = 0
	case !last:
		if line[3] == '-' {
			r.open = code
		}
		return 0
	}
	return code
}

// hidden reports whether a line of a FEAT reply offers what is refused here.
func (r *ftpReplies) hidden(line []byte) bool {
	if r.open != ftpFeatures {
		return false
	}
	text := strings.ToUpper(strings.TrimPrefix(string(line), "211-"))
	verb, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	_, refused := ftpRefused[verb]
	return refused
}

const ftpFeatures = 211

// What is answered by the relay itself: what would take the lines out of its sight, and
// what names addresses in a way that nobody uses any more.
const (
	ftpProtected = "The session of the relay is protected already, and the relay has to read these lines: go on without."
	ftpNoLong    = "Use EPSV, PASV, EPRT or PORT."
)

var ftpRefused = map[string]string{
	"AUTH": "534 " + ftpProtected, "ADAT": "502 " + ftpProtected, "PBSZ": "502 " + ftpProtected, "PROT": "502 " + ftpProtected, "CCC": "502 " + ftpProtected,
	"MIC": "502 " + ftpProtected, "CONF": "502 " + ftpProtected, "ENC": "502 " + ftpProtected, "SSCN": "502 " + ftpProtected, "CPSV": "502 " + ftpProtected,
	"LPRT": "502 " + ftpNoLong, "LPSV": "502 " + ftpNoLong, "SPSV": "502 " + ftpNoLong,
}
