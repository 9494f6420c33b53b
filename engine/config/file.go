package config

import (
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/folder"
	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/flow/relay"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// The shape of a file. The tag default is the value of a key that is not there,
// as text; spec/config.md says all of this for people, and a test compares.

type file struct {
	Node     nodeTable       `toml:"node"`
	HTTP     httpTable       `toml:"http"`
	Partner  []partnerTable  `toml:"partner"`
	Rule     []ruleTable     `toml:"rule"`
	Pool     []poolTable     `toml:"pool"`
	Relay    []relayTable    `toml:"relay"`
	Policy   []policyTable   `toml:"relay_policy"`
	Bridge   []bridgeTable   `toml:"bridge"`
	Listener []listenerTable `toml:"listener"`
	Folder   []folderTable   `toml:"folder"`
	Schedule []scheduleTable `toml:"schedule"`
	Expect   []expectTable   `toml:"expect"`
	Token    []tokenTable    `toml:"token"`
	Audit    auditTable      `toml:"audit"`
	Push     pushTable       `toml:"push"`
}

type nodeTable struct {
	Name       string        `toml:"name"`
	State      string        `toml:"state" default:"/var/lib/pannier"`
	Listen     []string      `toml:"listen"`
	Admin      string        `toml:"admin"`
	Concurrent int           `toml:"concurrent" default:"256"`
	Serving    int           `toml:"serving" default:"1024"`
	Bandwidth  rates         `toml:"bandwidth"`
	Patience   task.Duration `toml:"patience" default:"7d"`
	Retention  task.Duration `toml:"retention" default:"30d"`
	Failed     task.Duration `toml:"failed_retention" default:"90d"`
	Hops       int           `toml:"hops" default:"16"`
	Drain      task.Duration `toml:"drain" default:"30s"`
	Log        level         `toml:"log" default:"info"`
	LogFormat  logFormat     `toml:"log_format" default:"text"`
}

type httpTable struct {
	Listen      []string `toml:"listen"`
	Certificate string   `toml:"certificate"`
	Key         string   `toml:"key"`
}

type partnerTable struct {
	Name       string   `toml:"name"`
	Address    string   `toml:"address"`
	Key        oneOf    `toml:"key"`
	User       string   `toml:"user"`
	Bandwidth  rates    `toml:"bandwidth"`
	Pool       string   `toml:"pool"`
	Concurrent int      `toml:"concurrent" default:"64"`
	Open       int      `toml:"open" default:"10000"`
	ThirdParty []string `toml:"third_party"`
}

type poolTable struct {
	Name      string `toml:"name"`
	Bandwidth rates  `toml:"bandwidth"`
}

type ruleTable struct {
	Name      string       `toml:"name"`
	Direction direction    `toml:"direction"`
	Partners  []string     `toml:"partners"`
	Root      string       `toml:"root"`
	Exists    exists       `toml:"exists" default:"replace"`
	Quota     size         `toml:"quota" default:"none"`
	Digest    digest       `toml:"digest" default:"none"`
	Compress  compress     `toml:"compress" default:"off"`
	Priority  int8         `toml:"priority" default:"0"`
	Pool      string       `toml:"pool"`
	Retry     retryTable   `toml:"retry"`
	Pre       []task.Table `toml:"pre"`
	Post      []task.Table `toml:"post"`
	Error     []task.Table `toml:"error"`
	Sender    listsTable   `toml:"sender"`
	Receiver  listsTable   `toml:"receiver"`
}

type listsTable struct {
	Pre   []task.Table `toml:"pre"`
	Post  []task.Table `toml:"post"`
	Error []task.Table `toml:"error"`
}

type retryTable struct {
	Attempts int               `toml:"attempts" default:"5"`
	Delay    task.Duration     `toml:"delay" default:"30s"`
	Factor   float64           `toml:"factor" default:"2"`
	Most     task.Duration     `toml:"most" default:"1h"`
	Windows  []quantity.Window `toml:"windows"`
}

type relayTable struct {
	Name    string      `toml:"name"`
	Session string      `toml:"session"`
	Accept  oneOf       `toml:"accept"`
	At      place       `toml:"at" default:"here"`
	To      string      `toml:"to"`
	Ports   []portTable `toml:"ports"`
	From    []string    `toml:"from"`
	Mode    mode        `toml:"mode"`
	Resume  bool        `toml:"resume"`
	Proxy   bool        `toml:"proxy_protocol"`
	Allow   []string    `toml:"allow"`
	Limits  limitsTable `toml:"limits"`
}

type portTable struct {
	Port int    `toml:"port"`
	To   string `toml:"to"`
}

type policyTable struct {
	Partner string      `toml:"partner"`
	Relay   string      `toml:"relay" default:"*"`
	Dial    []string    `toml:"dial"`
	Listen  []string    `toml:"listen"`
	Proxy   bool        `toml:"proxy_protocol"`
	Limits  limitsTable `toml:"limits"`
}

type bridgeTable struct {
	Name        string   `toml:"name"`
	Plugin      string   `toml:"plugin"`
	Args        []string `toml:"args"`
	SHA256      string   `toml:"sha256"`
	Endpoint    string   `toml:"endpoint"`
	Credentials string   `toml:"credentials"`
	Options     []string `toml:"options"`
	FXP         []string `toml:"fxp"`
	Memory      size     `toml:"memory" default:"1GiB"`
	Files       int64    `toml:"files" default:"16384"`
	Bandwidth   rates    `toml:"bandwidth"`
	Pool        string   `toml:"pool"`
	Concurrent  int      `toml:"concurrent" default:"4"`
}

type listenerTable struct {
	Plugin  string      `toml:"plugin"`
	Args    []string    `toml:"args"`
	SHA256  string      `toml:"sha256"`
	Listen  string      `toml:"listen"`
	Options []string    `toml:"options"`
	Memory  size        `toml:"memory" default:"1GiB"`
	Files   int64       `toml:"files" default:"16384"`
	Users   []userTable `toml:"users"`
}

type userTable struct {
	Name     string `toml:"name"`
	Keys     string `toml:"keys"`
	Password string `toml:"password"`
	Partner  string `toml:"partner"`
	Rule     string `toml:"rule"`
	Get      string `toml:"get"`
	Wait     period `toml:"wait" default:"9m"`
}

type folderTable struct {
	Name      string        `toml:"name"`
	Rule      string        `toml:"rule"`
	Partner   oneOf         `toml:"partner"`
	Dir       string        `toml:"dir"`
	Recursive bool          `toml:"recursive"`
	Include   []string      `toml:"include"`
	Exclude   []string      `toml:"exclude"`
	Stable    task.Duration `toml:"stable" default:"2s"`
	Closed    bool          `toml:"closed"`
	MinAge    task.Duration `toml:"min_age"`
	DoneFile  string        `toml:"done_file"`
	After     after         `toml:"after" default:"keep"`
	To        string        `toml:"to"`
	Failed    failed        `toml:"failed" default:"keep"`
	FailedTo  string        `toml:"failed_to"`
	Interval  task.Duration `toml:"interval" default:"1m"`
	Open      int           `toml:"open" default:"1000"`
}

type scheduleTable struct {
	Name     string            `toml:"name"`
	Cron     string            `toml:"cron"`
	Zone     string            `toml:"zone"`
	Windows  []quantity.Window `toml:"windows"`
	Missed   missed            `toml:"missed" default:"once"`
	Most     int               `toml:"most" default:"24"`
	Grace    task.Duration     `toml:"grace" default:"5m"`
	Overlap  overlap           `toml:"overlap" default:"allow"`
	Rule     string            `toml:"rule"`
	Partner  oneOf             `toml:"partner"`
	Source   string            `toml:"source"`
	Target   string            `toml:"target"`
	Priority int8              `toml:"priority" default:"0"`
	Info     string            `toml:"info"`
}

type expectTable struct {
	Name    string        `toml:"name"`
	Rule    string        `toml:"rule"`
	Partner string        `toml:"partner"`
	File    string        `toml:"file"`
	Cron    string        `toml:"cron"`
	Zone    string        `toml:"zone"`
	At      string        `toml:"at"`
	Expire  task.Duration `toml:"expire" default:"24h"`
	Early   task.Duration `toml:"early"`
}

type tokenTable struct {
	Name    string   `toml:"name"`
	Scopes  []string `toml:"scopes"`
	Rules   []string `toml:"rules"`
	Expires expiry   `toml:"expires"`
	ID      string   `toml:"id"`
	SHA256  string   `toml:"sha256"`
}

type limitsTable struct {
	Conns    int    `toml:"conns" default:"4096"`
	Opens    int    `toml:"opens" default:"2000"`
	Bytes    size   `toml:"bytes" default:"none"`
	Rate     rate   `toml:"rate" default:"none"`
	Life     period `toml:"life" default:"none"`
	Idle     period `toml:"idle" default:"none"`
	Half     period `toml:"half" default:"5m"`
	Weight   int    `toml:"weight" default:"1"`
	Datagram int    `toml:"datagram" default:"65507"`
	Sources  int    `toml:"sources" default:"1024"`
	Amplify  int    `toml:"amplify"`
}

// oneOf is a text, or a list of them.
type oneOf []string

// rates is a rate, or a list of rates with times of the week.
type rates []quantity.Slot

// The values that are written as text and mean something else.
type (
	rate      int64         // bytes a second; 0: no limit
	size      int64         // bytes; sideeffect.NoQuota: no limit
	period    time.Duration // negative: no limit
	place     relay.Place
	mode      fs.FileMode // permissions; 0: none are said
	level     slog.Level
	logFormat string
	direction engine.Direction
	exists    engine.Exists
	digest    sideeffect.Algorithm
	compress  sideeffect.Compression
	after     folder.Action
	failed    folder.Action
	missed    schedule.Missed
	overlap   schedule.Overlap
)

// none is how a limit is written that there is not.
const none = "none"

func (r *rate) UnmarshalText(b []byte) error { return limit((*int64)(r), 0, 1, b, &quantity.Rate) }
func (s *size) UnmarshalText(b []byte) error {
	return limit((*int64)(s), sideeffect.NoQuota, 0, b, &quantity.Size)
}

// limit reads a quantity of at least least, or "none", which is without.
func limit(v *int64, without, least int64, b []byte, unit *quantity.Unit) error {
	if string(b) == none {
		*v = without
		return nil
	}
	n, err := unit.Parse(string(b))
	if err == nil && n < least {
		err = fault.New("read limit", fault.Invalid, "%q would let nothing pass: write \"none\" for no limit", b)
	}
	*v = n
	return err
}

func (p *period) UnmarshalText(b []byte) error {
	if string(b) == none {
		*p = -1
		return nil
	}
	d, err := quantity.ParseDuration(string(b))
	if err == nil && d <= 0 {
		err = fault.New("read limit", fault.Invalid, "%q would let nothing pass: write \"none\" for no limit", b)
	}
	*p = period(d)
	return err
}

func (p *place) UnmarshalText(b []byte) error {
	return choose((*relay.Place)(p), b, []relay.Place{relay.Here, relay.There}, "here", "there")
}

func (m *mode) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil || n == 0 || fs.FileMode(n) != fs.FileMode(n).Perm() {
		return fault.New("read mode", fault.Invalid, "%q is no mode: write octal permissions, as \"0660\"", b)
	}
	*m = mode(n)
	return nil
}

func (l *level) UnmarshalText(b []byte) error {
	return choose((*slog.Level)(l), b, []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}, "debug", "info", "warn", "error")
}

func (f *logFormat) UnmarshalText(b []byte) error {
	return choose((*string)(f), b, []string{"text", "json"}, "text", "json")
}

func (d *direction) UnmarshalText(b []byte) error {
	return choose((*engine.Direction)(d), b, []engine.Direction{engine.Send, engine.Receive}, "send", "receive")
}

func (e *exists) UnmarshalText(b []byte) error {
	return choose((*engine.Exists)(e), b, []engine.Exists{engine.Overwrite, engine.Refuse}, "replace", "refuse")
}

func (d *digest) UnmarshalText(b []byte) error {
	return choose((*sideeffect.Algorithm)(d), b, []sideeffect.Algorithm{sideeffect.None, sideeffect.SHA256, sideeffect.SHA512, sideeffect.BLAKE3},
		"none", "sha256", "sha512", "blake3")
}

func (c *compress) UnmarshalText(b []byte) error {
	return choose((*sideeffect.Compression)(c), b, []sideeffect.Compression{sideeffect.CompressOff, sideeffect.CompressAuto, sideeffect.CompressZstd, sideeffect.CompressS2},
		"off", "auto", "zstd", "s2")
}

func (a *after) UnmarshalText(b []byte) error {
	return choose((*folder.Action)(a), b, []folder.Action{folder.Keep, folder.Delete, folder.Move}, "keep", "delete", "move")
}

func (f *failed) UnmarshalText(b []byte) error {
	return choose((*folder.Action)(f), b, []folder.Action{folder.Keep, folder.Move}, "keep", "move")
}

func (m *missed) UnmarshalText(b []byte) error {
	return choose((*schedule.Missed)(m), b, []schedule.Missed{schedule.Skip, schedule.Once, schedule.All}, "skip", "once", "all")
}

func (o *overlap) UnmarshalText(b []byte) error {
	return choose((*schedule.Overlap)(o), b, []schedule.Overlap{schedule.Allow, schedule.Wait}, "allow", "skip")
}

// choose reads one of the names; the i-th is the i-th value.
func choose[T any](v *T, b []byte, values []T, names ...string) error {
	i := slices.Index(names, string(b))
	if i < 0 {
		return fault.New("choose", fault.Invalid, "%q is none of %s%s", b, strings.Join(names, ", "), meant(string(b), names))
	}
	*v = values[i]
	return nil
}
