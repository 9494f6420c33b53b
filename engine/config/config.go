package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"reflect"
	"strconv"
	"syscall"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/engine/guest"
	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/shellword"
)

// DefaultPath is where a node's file is unless somebody says otherwise.
const DefaultPath = "/etc/pannier/pannier.toml"

// defaultState is a node's state directory unless its file says otherwise.
const defaultState = "/var/lib/pannier"

// most is how many bytes a file may have.
const most = 16 << 20

// Config is what a file says.
type Config struct {
	Node  Node
	HTTP  HTTP
	Book  engine.Book       // the node itself is no partner in it unless the file has one of its name
	Users map[string]string // users of this host, by name or number: the partners that call as them over unix sockets

	Relays map[string]relay.Relay // by name
	Policy []relay.Allow          // what partners may ask of this node, in order

	Bridges   map[string]Bridge // by name
	Listeners []Listener

	Folders   map[string]folder.Folder     // by name
	Schedules map[string]schedule.Schedule // by name
	Expects   map[string]schedule.Expected // by name
	Tokens    []access.Token
	Audit     Audit
	Push      Push
	file      Source // what it was read from
	text      document
	own       func(state string) string
}

// Listener is where foreign clients connect, and the plugin that serves them.
type Listener struct {
	Plugin  string // as of Bridge
	Args    []string
	SHA256  string
	Address string // host and port; unique
	Options map[string]string
	Memory  int64
	Files   int64
	Users   []guest.User
}

// Bridge is a server of another protocol, and the plugin that speaks it.
type Bridge struct {
	Name        string
	Plugin      string // bundled: its name; else a program's absolute path
	Args        []string
	SHA256      string // of the program, and of nothing that it reads; "": any
	Endpoint    string // URL
	Credentials string // absolute path of their file; "": none
	Options     map[string]string
	Memory      int64            // most bytes of the plugin's process; sideeffect.NoQuota: no limit
	Files       int64            // most descriptors of it
	FXP         []string         // bridges whose servers this one may exchange files with directly, if they name it too
	Bandwidth   engine.Timetable // of bytes through this node
	Pool        string           // whose bandwidth it shares; "": none's
	Concurrent  int              // requests that run at a time
}

// Node is the part about the node itself. It holds for the life of a process but
// for Drain and Log.
type Node struct {
	Name       string
	State      string           // absolute directory
	Listen     []string         // addresses
	Admin      string           // "unix:///path"
	Concurrent int              // requests that run at a time
	Serving    int              // requests that are served at a time
	Bandwidth  engine.Timetable // of all transfers together
	Patience   time.Duration    // of the requested end
	Retention  time.Duration    // of records that are DONE
	Failed     time.Duration    // of records that are INERROR
	Hops       int              // requests before one in a chain
	Drain      time.Duration    // for what runs when the node is told to end
	Log        slog.Level
	LogFormat  string // "text" or "json"
}

// HTTP is where the node speaks HTTP. It holds for the life of a process.
type HTTP struct {
	Listen      []string // "unix:///path" and "tls://host:port"; none: nowhere
	Certificate string   // absolute path of a PEM file; "": the node's own
	Key         string   // of its private key
}

// Load reads a file. One that is not there is fault.NotFound, one that may not
// be read fault.Permission, one with problems fault.Invalid with all of them. A
// partner with the node's own key is a problem where the node has one already. What was
// applied while the node ran, and is kept in its state directory, belongs to it.
func Load(path string) (*Config, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return parseFor(path, data, ownKey, applied)
}

func read(path string) ([]byte, error) {
	const op = "read configuration"
	f, err := os.Open(path)
	if err != nil {
		return nil, once(op, path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, once(op, path, err)
	}
	if len(data) > most {
		return nil, &fault.Error{Op: op, Kind: fault.TooLong, Subject: path, Err: fmt.Errorf("more than %d bytes", most)}
	}
	return data, nil
}

// ownKey is the key in a state directory; "" when there is none that this user may
// read.
func ownKey(state string) string {
	id, err := carrier.LoadIdentity(state)
	if err != nil {
		return "" // serve makes it, or says what is wrong with it
	}
	return id.Key()
}

// once is err with the path and the reason named once.
func once(op, path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		return &fault.Error{Op: op, Kind: fault.Permission, Subject: path, Err: errors.New(unreadable(path, os.Geteuid()))}
	}
	return fault.Wrap(op, path, err)
}

// unreadable is why a user may not read a file, and what helps. Who reads that may be somebody else:
// of a daemon it is its own user.
func unreadable(path string, uid int) string {
	name, group := strconv.Itoa(uid), ""
	if u, err := user.LookupId(name); err == nil {
		name, group = u.Username, u.Gid
	}
	text := "user " + name + " may not "
	fi, err := os.Stat(path)
	if err != nil {
		return text + "enter a directory on the way to it"
	}
	text += fmt.Sprintf("read it; it has mode %04o", fi.Mode().Perm())
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		text += ", and is of " + owners(s.Uid, s.Gid)
	}
	if group == "" {
		return text
	}
	return text + ". If that is the node's user, as root: " + shellword.Line("chgrp", groupName(group), path) + " && " + shellword.Line("chmod", "0640", path)
}

// owners are a user and a group by their names, as chown has them.
func owners(uid, gid uint32) string {
	name := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return name + ":" + groupName(strconv.FormatUint(uint64(gid), 10))
}

func groupName(gid string) string {
	if g, err := user.LookupGroupId(gid); err == nil {
		return g.Name
	}
	return gid
}

// Parse reads a text; name is what messages call it. It looks at nothing else.
func Parse(name string, data []byte) (*Config, error) {
	return parseFor(name, data, func(string) string { return "" }, func(string) ([]Source, error) { return nil, nil })
}

// parseFor is Parse; own is the key that a state directory has, extra what was applied to
// the node that has it.
func parseFor(name string, data []byte, own func(state string) string, extra func(state string) ([]Source, error)) (*Config, error) {
	data = Unmarked(data)
	p := &problems{file: name, data: data}
	root, wrong := parse(data)
	if wrong != nil {
		p.list = append(p.list, *wrong)
		return nil, p.err()
	}
	if state := stateOf(root); state != "" {
		more, err := extra(state)
		if err != nil {
			return nil, err
		}
		p.include(root, more)
	}
	m := meaning{problems: p, own: own}
	p.fill(reflect.ValueOf(&m.file).Elem(), root)
	cfg := m.config(root)
	if err := p.err(); err != nil {
		return nil, err
	}
	cfg.file, cfg.own, cfg.text = Source{Name: name, Text: data}, own, document{*p, root}
	return cfg, nil
}
