package host

import (
	"log/slog"
	"time"
)

// Config is how a plugin is run. The zero values of the times are replaced by those
// that are named.
type Config struct {
	Name   string       // in messages and logs
	Path   string       // the program
	Args   []string     // its arguments
	SHA256 string       // hexadecimal, of the program; "": any
	Env    []string     // "KEY=VALUE", beside PATH, TMPDIR, HOME and LANG of this process
	Dir    string       // where the directory of its socket is made; "": $RUNTIME_DIRECTORY, or that of temporary files
	Log    *slog.Logger // of the process and what it says; nil: slog.Default

	Start  time.Duration // most between its start and its description; 10 s
	Call   time.Duration // most of a call that is answered at once by what answers; 2 min, and 10 min for the end of a file
	Answer time.Duration // the process is asked that often whether it is there, and killed if it has not said so after as long again; 10 s
	Drain  time.Duration // Close waits that long for sessions; 5 s
	Grace  time.Duration // between the lease's end and SIGKILL; 2 s

	Memory  int64  // most bytes of memory of a process of its (Linux); DefaultMemory, below 0: no limit
	Files   int64  // most descriptors; DefaultFiles
	Crashed func() // told of each crash; it must not wait. nil: nobody

	Messages bool // bytes go in messages even if the plugin takes descriptors
}

// What a process has at most, where nothing else is said.
const (
	DefaultMemory = 1 << 30
	DefaultFiles  = 16384
)

// orDefaults has every time and limit set.
func (c Config) orDefaults() Config {
	for _, t := range []struct {
		set *time.Duration
		to  time.Duration
	}{{&c.Start, 10 * time.Second}, {&c.Call, 2 * time.Minute}, {&c.Answer, 10 * time.Second}, {&c.Drain, 5 * time.Second}, {&c.Grace, 2 * time.Second}} {
		if *t.set <= 0 {
			*t.set = t.to
		}
	}
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.Files <= 0 {
		c.Files = DefaultFiles
	}
	if c.Crashed == nil {
		c.Crashed = func() {}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.Log = c.Log.With("plugin", c.Name)
	return c
}

// commitTimes is how many times Call the end of a file may take: servers put parts
// together then.
const commitTimes = 5

// EntryArgument is the first argument by which the bundled drivers' program knows that
// it is to be a plugin; the second is the driver's name.
const EntryArgument = "bundled-plugin"

// Bundled is the plugin of that name which is part of this program: its main function
// calls plugins.Serve when its first argument is EntryArgument.
func Bundled(name string) Config {
	return Config{Name: name, Path: self, Args: []string{EntryArgument, name}}
}
