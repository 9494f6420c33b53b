package carrier

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of addresses of one pipe.
const (
	maxArguments = 64
	maxBaud      = 4_000_000
)

// onePipe: the carrier is one pipe outside of this process.
func (a Address) onePipe() bool {
	switch a.Scheme {
	case FIFO, Exec, Stdio, TTY:
		return true
	}
	return false
}

// parseOnePipe reads an address of one pipe; is says whether it means to be one.
func parseOnePipe(text string) (a Address, is bool, err error) {
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok {
		return Address{}, false, nil
	}
	if scheme, a.Plain = strings.CutPrefix(scheme, plainly); !a.Plain {
		scheme = strings.TrimPrefix(scheme, TLS+"+") // what is meant without it, too
	}
	a.Scheme = scheme
	why := ""
	switch scheme {
	case FIFO:
		why = a.parseFIFO(rest)
	case TTY:
		why = a.parseTTY(rest)
	case Exec:
		why = a.parseExec(rest)
	case Stdio:
		if rest != "" {
			why = "nothing follows stdio:"
		}
	default:
		return Address{}, false, nil
	}
	if why != "" {
		return Address{}, true, badAddress(text, why)
	}
	return a, true, nil
}

// plainFile says what is wrong with the name of a file.
func plainFile(path string) (why string) {
	switch {
	case !filepath.IsAbs(path):
		return "paths are absolute: three slashes"
	case strings.ContainsAny(path, "\x00,") || filepath.Clean(path) != path || path == "/":
		return "a path is not the plain name of a file, or has a comma"
	}
	return ""
}

func (a *Address) parseFIFO(rest string) (why string) {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "paths are absolute: three slashes"
	}
	in, out, two := strings.Cut(rest, ",")
	if why = plainFile(in); why == "" && two {
		why = plainFile(out)
	}
	if why == "" && in == out {
		why = "a FIFO carries one direction: name one to read and another one to write"
	}
	a.Path, a.Out = in, out
	return why
}

func (a *Address) parseTTY(rest string) (why string) {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "paths are absolute: three slashes"
	}
	path, query, asked := strings.Cut(rest, "?")
	if asked {
		digits, ok := strings.CutPrefix(query, "baud=")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || n < 1 || n > maxBaud {
			return "behind ? is baud= and a number of bits a second"
		}
		a.Baud = n
	}
	a.Path = path
	return plainFile(path)
}

func (a *Address) parseExec(rest string) (why string) {
	const want = `behind exec: is the argument vector as a JSON array, as ["ssh","host","pannier","stdio"]; there is no shell`
	var argv []string
	if !utf8.ValidString(rest) || !strings.HasPrefix(rest, "[") || json.Unmarshal([]byte(rest), &argv) != nil {
		return want
	}
	switch {
	case len(argv) == 0 || argv[0] == "":
		return "the command has no name"
	case len(argv) > maxArguments:
		return "more than " + strconv.Itoa(maxArguments) + " arguments"
	}
	for _, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return "an argument has a NUL"
		}
	}
	a.Command = encodeArgv(argv)
	if len(a.Command) > maxAddress-len(plainly+Exec+":") {
		return "the command is too long"
	}
	return ""
}

func encodeArgv(argv []string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(argv) // strings always encode
	return strings.TrimSpace(b.String())
}

// ExecAddress is the address of a command, with TLS inside.
func ExecAddress(argv ...string) string { return Exec + ":" + encodeArgv(argv) }

// Argv is the command of an exec address and its arguments.
func (a Address) Argv() []string {
	var argv []string
	_ = json.Unmarshal([]byte(a.Command), &argv) // checked by ParseAddress
	return argv
}

func (a Address) onePipeString() string {
	if !a.onePipe() {
		return ""
	}
	text := a.Scheme + ":"
	if a.Plain {
		text = plainly + text
	}
	switch a.Scheme {
	case FIFO:
		text += "//" + a.Path
		if a.Out != "" {
			text += "," + a.Out
		}
	case TTY:
		text += "//" + a.Path
		if a.Baud != 0 {
			text += "?baud=" + strconv.Itoa(a.Baud)
		}
	case Exec:
		text += a.Command
	}
	return text
}
