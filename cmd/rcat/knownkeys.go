package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/spec/fault"
)

const (
	knownKeysFile = "known_keys"
	maxKnownKeys  = 256 << 10 // bytes of the file
)

// knownKeys are the keys that servers are known to have, as the lines of the
// file known_keys: "ADDRESS KEY", or a comment that begins with "#".
type knownKeys struct{ lines []string }

// parseKnownKeys reads the file. Errors are fault.Invalid (or TooLong) and name
// the line.
func parseKnownKeys(text string) (knownKeys, error) {
	const op = "read known keys"
	if len(text) > maxKnownKeys {
		return knownKeys{}, fault.New(op, fault.TooLong, "more than %d bytes", maxKnownKeys)
	}
	var k knownKeys
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if f := strings.Fields(line); len(f) > 0 && f[0][0] != '#' {
			address, key := knownKey(line)
			if strings.ContainsAny(address, " \t") && !strings.HasPrefix(address, carrier.Exec+":") || address == "" {
				return knownKeys{}, fault.New(op, fault.Invalid, "line %d is not an address and a key", i+1)
			}
			if _, err := carrier.ParsePins(key); err != nil {
				return knownKeys{}, fault.New(op, fault.Invalid, "line %d: %w", i+1, err)
			}
		}
		k.lines = append(k.lines, line)
	}
	return k, nil
}

func (k knownKeys) String() string { return strings.Join(k.lines, "\n") + "\n" }

// of is the key of the server at an address, "" if it is not known.
func (k knownKeys) of(address string) string {
	if i := k.find(address); i >= 0 {
		_, key := knownKey(k.lines[i])
		pins, _ := carrier.ParsePins(key) // checked by parseKnownKeys
		return pins[0]
	}
	return ""
}

func (k knownKeys) find(address string) int {
	return slices.IndexFunc(k.lines, func(line string) bool {
		known, key := knownKey(line)
		return known == address && key != ""
	})
}

// knownKey is the address and the key of a line. Only the address of a command
// may have spaces.
func knownKey(line string) (address, key string) {
	line = strings.TrimSpace(line)
	at := strings.LastIndexAny(line, " \t")
	if at < 0 {
		return line, ""
	}
	return strings.TrimSpace(line[:at]), line[at+1:]
}

// with is k with the key of one server changed or added.
func (k knownKeys) with(address, key string) knownKeys {
	line := address + " " + key
	if i := k.find(address); i >= 0 {
		k.lines = slices.Clone(k.lines)
		k.lines[i] = line
		return k
	}
	lines := slices.DeleteFunc(slices.Clone(k.lines), func(l string) bool { return l == "" })
	return knownKeys{append(lines, line)}
}

// loadKnownKeys reads the file in the folder dir; without one, no key is known.
func loadKnownKeys(dir string) (knownKeys, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return knownKeys{}, nil
	}
	if err != nil {
		return knownKeys{}, fault.Wrap("read known keys", dir, err)
	}
	defer root.Close()
	f, err := root.Open(knownKeysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return knownKeys{}, nil
	}
	if err != nil {
		return knownKeys{}, fault.Wrap("read known keys", dir, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKnownKeys+1))
	if err != nil {
		return knownKeys{}, fault.Wrap("read known keys", dir, err)
	}
	k, err := parseKnownKeys(string(text))
	return k, fault.Wrap("read known keys", dir, err)
}

// rememberKey puts a server's key into the file in the folder dir, in one step. Of
// two processes that do so at the same time the later one wins.
func rememberKey(dir, address, key string) error {
	const op = "remember key"
	k, err := loadKnownKeys(dir)
	if err != nil || k.of(address) == key {
		return err
	}
	f, err := os.CreateTemp(dir, knownKeysFile+".new-")
	if err != nil {
		return fault.Wrap(op, dir, err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	_, err = io.WriteString(f, k.with(address, key).String())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), dir+string(os.PathSeparator)+knownKeysFile)
	}
	return fault.Wrap(op, dir, err)
}
