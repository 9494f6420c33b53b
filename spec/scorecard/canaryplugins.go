package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pannier/pannier/engine/guest"
	"github.com/pannier/pannier/flow/flowtest/freeport"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// Canaries in what bridges log in with and in what foreign clients are known by: a node that
// sends to itself, by a bridge of FTP and a listener, and to servers that refuse it.

// bridgesRun is such a node.
type bridgesRun struct {
	*canaryRun
	address string // of the listener
	store   string // a directory behind it
	typed   string // what a client types that is not let in
}

func (r *canaryRun) runBridges(ctx context.Context, dir string) (err error) {
	if r.fleet, err = newFleet(dir, 1); err != nil {
		return err
	}
	defer r.close()
	r.ids = nil
	b := &bridgesRun{canaryRun: r}
	if err := b.prepare(); err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	if err := b.use(ctx); err != nil {
		return err
	}
	if err := r.operators(ctx, 0); err != nil {
		return err
	}
	b.processes()
	r.crash()
	r.files()
	return nil
}

// word is a canary that is nowhere but in the files of credentials, which are beside the
// node.
func (b *bridgesRun) word(what string) string {
	text := fmt.Sprintf("canary%016x%016x", b.j.rnd.Uint64(), b.j.rnd.Uint64())
	b.secrets = append(b.secrets, canary{what: what, forms: formsOf([]byte(text))})
	return text
}

func (b *bridgesRun) prepare() error {
	var err error
	if b.address, err = freeport.Address("127.0.0.1"); err != nil {
		return fault.Wrap("find port", "", err)
	}
	password := b.word("password")
	b.typed = b.word("what a stranger types")
	hash, err := guest.Hash(password)
	if err != nil {
		return err
	}
	b.secrets = append(b.secrets, canary{what: "hash", forms: formsOf([]byte(hash))})
	secrets := filepath.Join(b.j.dir, "secrets")
	b.store = filepath.Join(b.j.dir, "store")
	for _, d := range []string{secrets, b.store} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fault.Wrap("make folder", d, err)
		}
	}
	file := func(name string, content any) string {
		text, _ := json.Marshal(content)
		if s, ok := content.(string); ok {
			text = []byte(s)
		}
		path := filepath.Join(secrets, name)
		if e := os.WriteFile(path, text, 0o600); e != nil && err == nil {
			err = fault.Wrap("make file", name, e)
		}
		return strconv.Quote("file:" + path)
	}
	type login struct {
		User     string            `json:"user"`
		Password string            `json:"password,omitempty"`
		Secrets  map[string]string `json:"secrets,omitempty"`
	}
	pem := "-----BEGIN OPENSSH PRIVATE KEY-----\n" + b.word("private key") + "\n-----END OPENSSH PRIVATE KEY-----\n"
	var text strings.Builder
	text.WriteString(pushRule("push", "retry = { attempts = 1 }") + pushRule("guests", ""))
	plugin := func(driver string) string {
		return fmt.Sprintf("plugin = %s\nargs = [%q, %q]\n", tomlText(b.program), host.EntryArgument, driver)
	}
	for _, s := range []struct {
		name, driver, endpoint string
		login                  any
	}{
		{"store", "dir", "dir://" + b.store, nil},
		{"loop", "ftp", "ftp://" + b.address, login{User: "acme", Password: password}},
		{"wrong", "ftp", "ftp://" + b.address, login{User: "acme", Password: b.word("wrong password")}},
		{"nowhere", "ftp", "ftp://127.0.0.1:1", login{User: "acme", Password: b.word("password for nobody")}},
		{"strange", "sftp", "sftp://" + b.address, login{User: "acme", Secrets: map[string]string{"key": pem, "passphrase": b.word("passphrase")}}},
		{"unknown", "sftp", "sftp://" + b.address, login{User: "acme", Secrets: map[string]string{"password": b.word("misplaced password")}}},
		{"bucket", "s3", "s3+http://" + b.address + "/bucket", login{User: "key", Password: b.word("secret key"), Secrets: map[string]string{"token": b.word("token")}}},
		{"broken", "ftp", "ftp://" + b.address, "{\"user\": \"acme\", \"password\": \"" + b.word("broken file") + "\", nonsense"},
	} {
		fmt.Fprintf(&text, "[[bridge]]\nname = %q\n%sendpoint = %q\n", s.name, plugin(s.driver), s.endpoint)
		if s.login != nil {
			fmt.Fprintf(&text, "credentials = %s\n", file(s.name, s.login))
		}
		if s.driver == "sftp" {
			text.WriteString("options = [\"hostkey=SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\"]\n")
		}
	}
	fmt.Fprintf(&text, "[[listener]]\n%slisten = %q\noptions = [\"tls=off\", \"login-delay=10ms\"]\nusers = [ { name = \"acme\", password = %s, partner = \"store\", rule = \"guests\" } ]\n",
		plugin("ftp"), b.address, file("hash", hash))
	if err != nil {
		return err
	}
	n := b.all[0]
	n.Env = []string{"PANNIER_CANARY=" + b.word("environment"), "CREDENTIAL=" + b.word("environment")}
	if err := os.WriteFile(filepath.Join(n.Root, "file"), []byte("content"), 0o600); err != nil {
		return fault.Wrap("make file", "", err)
	}
	return b.write([]string{`log = "debug"`}, nil, text.String())
}

// use has each bridge used, in each way that there is, and a client refused.
func (b *bridgesRun) use(ctx context.Context) error {
	n := b.all[0]
	c, err := n.Client()
	if err != nil {
		return err
	}
	for until := time.Now().Add(20 * time.Second); !strings.Contains(b.log(0), "foreign clients are served"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			return fault.New("wait for listener", fault.Deadline, "nobody listens")
		}
	}
	for _, name := range []string{"loop", "wrong", "nowhere", "strange", "unknown", "bucket", "broken"} {
		p, err := c.TestPartner(ctx, &adminpb.TestPartnerRequest{Partner: name, Write: true})
		b.search("test of "+name, "operators", 0, fmt.Appendf(nil, "%v %v", p, err))
		_, _ = b.command(ctx, 0, "partner", "test", name) // most are to fail
		_, _ = b.command(ctx, 0, "ls", name+":/")
		r, err := c.Submit(ctx, &adminpb.SubmitRequest{Partner: name, Rule: "push", Source: "file", Target: name})
		if err != nil {
			return err
		}
		b.ids = append(b.ids, r.GetRequest().GetId())
		_, _ = c.Wait(ctx, &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: r.GetRequest().GetId()}, Timeout: durationpb.New(3 * time.Second)}) // who may not log in waits for another password
	}
	if came, _ := os.ReadDir(b.store); len(came) == 0 {
		b.add("nothing has come through bridge and listener")
	}
	conn, err := net.Dial("tcp", b.address)
	if err != nil {
		return fault.Wrap("connect", b.address, err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	for _, line := range []string{"", "USER acme\r\n", "PASS " + b.typed + "\r\n", "STAT\r\n"} {
		_, _ = conn.Write([]byte(line))
		said, err := in.ReadString('\n')
		if err != nil {
			return fault.Wrap("talk to listener", b.address, err)
		}
		b.search("an answer to a client", "wire", 0, []byte(said))
	}
	return nil
}

// processes looks at what the plugins were started with, and has each leave a trace.
func (b *bridgesRun) processes() {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	found := 0
	for _, path := range all {
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		if parentOf(pid) != b.all[0].PID() {
			continue
		}
		found++
		for _, what := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(path), what))
			if err != nil {
				b.add("%v", err)
			}
			b.search("a plugin's "+what, "arguments", 0, text)
		}
		_ = syscall.Kill(pid, syscall.SIGQUIT) // its trace is in the log
	}
	if found < 4 {
		b.add("%d plugins run, and not one of each kind", found)
	}
	for until := time.Now().Add(10 * time.Second); !strings.Contains(b.log(0), "goroutine ") && time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
	}
}
