package ftpd

import (
	"bufio"
	"errors"
	"strings"

	"github.com/pannier/pannier/plugins"
)

// maxLine is the most bytes of a line: a name, and a command before it.
const maxLine = plugins.MaxName + 64

// command is one line of a client.
type command struct {
	verb string // in upper case; "": the line is no command
	arg  string // what follows the first space, as it came; may have any bytes but LF
	// later: it came after a transfer was announced, so whoever sent it wants an answer
	// before the transfer's. What came before is answered in order.
	later bool
}

var errLongLine = errors.New("the line is too long")

// readLine reads up to the next LF. The result is valid until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errLongLine
	}
	return line, err
}

// parseCommand takes a line apart. Telnet's controls, which come with ABOR, are left out.
func parseCommand(line []byte) command {
	text := strings.TrimSuffix(strings.TrimSuffix(string(withoutTelnet(line)), "\n"), "\r")
	verb, arg, _ := strings.Cut(text, " ")
	if len(verb) < 3 || len(verb) > 4 {
		return command{}
	}
	for i := range len(verb) {
		if c := verb[i] | 0x20; c < 'a' || c > 'z' {
			return command{}
		}
	}
	return command{verb: strings.ToUpper(verb), arg: arg}
}

// Telnet's, RFC 854. Of the others, those of one byte follow an IAC.
const (
	telnetIAC  = 255
	telnetWILL = 251 // to 254: DONT; an option follows
)

// withoutTelnet is a line without Telnet's controls. Before the command, bytes that are no
// ASCII are left out too: of IAC and the data mark, one is urgent, and need not be in the
// stream.
func withoutTelnet(line []byte) []byte {
	var kept []byte
	for i := 0; i < len(line); i++ {
		b := line[i]
		if b == telnetIAC && i+1 < len(line) {
			i++
			switch next := line[i]; {
			case next == telnetIAC:
			case next >= telnetWILL:
				i++
				continue
			case next >= 240:
				continue
			default:
				i--
			}
		}
		if b >= 0x80 && len(kept) == 0 {
			continue
		}
		kept = append(kept, b)
	}
	return kept
}
