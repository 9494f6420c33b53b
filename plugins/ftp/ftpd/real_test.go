package ftpd_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/flow/flowtest/testcert"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/ftp"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
)

// program is a client of the system; without it the test is skipped, and .ci/test tells.
func program(t *testing.T, name string) string {
	t.Helper()
	at, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s: the FTP server is not tested with it; .ci/test installs it as root on Debian", name)
	}
	return at
}

// runs runs it, and is what it says.
func runs(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try(t, args...)
	if err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func try(t *testing.T, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ways are those of protection: options of the server, those of our client.
var ways = map[string]struct {
	server, client []string
}{
	"plain":    {[]string{"tls", "off"}, nil},
	"optional": {[]string{"tls", "optional"}, nil},
	"explicit": {[]string{"tls", "required"}, []string{"tls", "require"}},
	"implicit": {[]string{"tls", "implicit"}, nil},
}

// TestOurs holds our own driver, with this server at its other end, against the contract of
// bridges.
func TestOurs(t *testing.T) {
	for way, o := range ways {
		if way == "optional" { // to a client without TLS as plain
			continue
		}
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			cert := testcert.New(t, t.TempDir(), "here")
			n := &node{}
			options := o.server
			if way != "plain" {
				options = append(slices.Clone(options), "cert", cert.Both)
			}
			s := serve(t, n, options...)
			p := host.InProcess(host.Config{Name: "ftp", Drain: time.Second}, ftp.Driver{})
			defer func() { _ = p.Close(context.Background()) }()
			to := plugins.Endpoint{URL: "ftp://" + s.address, User: user, Password: password, Options: map[string]string{"timeout": "5s"}}
			if way == "implicit" {
				to.URL = "ftps://" + s.address
			}
			if way == "explicit" || way == "implicit" {
				to.Options["pin"] = cert.Pin
			}
			for i := 0; i < len(o.client); i += 2 {
				to.Options[o.client[i]] = o.client[i+1]
			}
			plugintest.Run(t, plugintest.Harness{
				Levels:  []string{plugintest.Core, plugintest.Write},
				Open:    func(ctx context.Context) (plugins.Session, error) { return p.Open(ctx, to) },
				Entries: 500,
				Sparse: func(name string, size int64) error {
					f, err := os.Create(filepath.Join(n.root, name))
					if err != nil {
						return err
					}
					defer f.Close()
					return f.Truncate(size)
				},
			})
		})
	}
}

// modes are the ways of a data connection, as flags of curl.
var modes = map[string][]string{
	"epsv": nil,
	"pasv": {"--disable-epsv", "--no-ftp-skip-pasv-ip"},
	"eprt": {"--ftp-port", "-"},
	"port": {"--ftp-port", "-", "--disable-eprt"},
}

// TestRealCurl: curl sends, gets, goes on with a get, and lists, in each way of protection
// and each of data connections; but not actively with TLS, where curl 7.88 sends files in
// clear, which is refused. lftp does that.
func TestRealCurl(t *testing.T) {
	curl := program(t, "curl")
	b := randomBytes(2<<20 + 1)
	local := t.TempDir()
	if err := os.WriteFile(filepath.Join(local, "f"), b, 0o666); err != nil {
		t.Fatal(err)
	}
	for way, o := range ways {
		for mode, flags := range modes {
			if way != "plain" && flags != nil && flags[0] == "--ftp-port" {
				continue
			}
			t.Run(way+" "+mode, func(t *testing.T) {
				s := serve(t, nil, o.server...)
				args := append([]string{curl, "-sS", "-k", "-v", "--max-time", "30", "--user", user + ":" + password}, flags...)
				url := "ftp://" + s.address + "/"
				switch way {
				case "implicit":
					url = "ftps://" + s.address + "/"
				case "explicit":
					args = append(args, "--ssl-reqd")
				case "optional":
					args = append(args, "--ssl")
				}
				run := func(more ...string) string { t.Helper(); return runs(t, append(slices.Clone(args), more...)...) }
				up := filepath.Join(local, "f")
				run("-T", up, url+"up", "-T", up, url+"again") // one login, two files
				s.holds(t, "up", b)
				s.holds(t, "again", b)
				run("--ftp-create-dirs", "-T", up, url+"made/for/it")
				s.holds(t, "made/for/it", b)
				got := filepath.Join(t.TempDir(), "got")
				has := func(n int) {
					t.Helper()
					if g, err := os.ReadFile(got); err != nil || !bytes.Equal(g, b[:n]) {
						t.Errorf("it has %d bytes, %v", len(g), err)
					}
				}
				run("-o", got, url+"up")
				has(len(b))
				if err := os.Truncate(got, 1000001); err != nil {
					t.Fatal(err)
				}
				has(1000001)
				run("-C", "-", "-o", got, url+"up")
				has(len(b))
				if list := run(url); !strings.Contains(list, " up\n") || !strings.Contains(list, "drwxr-xr-x") {
					t.Errorf("%s", list)
				}
				run("-Q", "RNFR /up", "-Q", "RNTO /down", "-Q", "-DELE again", url)
				s.holds(t, "down", b)
				s.absent(t, "up")
				s.absent(t, "again")
			})
		}
	}
}

// TestRealLftp: lftp mirrors trees both ways, several files at a time.
func TestRealLftp(t *testing.T) {
	lftp := program(t, "lftp")
	tree, b := t.TempDir(), randomBytes(300_000)
	for i := range 30 {
		d := filepath.Join(tree, fmt.Sprintf("d %d", i%3), "é")
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("f %d.bin", i)), b[:i*10_000], 0o666); err != nil {
			t.Fatal(err)
		}
	}
	same := func(t *testing.T, a, b string) {
		t.Helper()
		if out, err := exec.Command("diff", "-r", a, b).CombinedOutput(); err != nil {
			t.Errorf("%v: %.1000s", err, out)
		}
	}
	for way, o := range ways {
		for _, passive := range []string{"yes", "no"} {
			t.Run(way+" passive "+passive, func(t *testing.T) {
				s := serve(t, nil, o.server...)
				script := "set cmd:fail-exit yes; set net:max-retries 2; set net:timeout 10; set ssl:verify-certificate no; set ftp:passive-mode " + passive + "; "
				url := "ftp://" + s.address
				switch way {
				case "implicit":
					url = "ftps://" + s.address
				case "explicit":
					script += "set ftp:ssl-force yes; "
				case "plain":
					script += "set ftp:ssl-allow no; "
				}
				script += fmt.Sprintf("debug 5; open -u '%s,%s' %s; ", user, password, url)
				back := t.TempDir()
				runs(t, lftp, "-c", script+fmt.Sprintf("mirror -R -P 4 '%s' there; mirror -P 4 there '%s'; mv there/d\\ 0 moved; rm -r there; cls -l; ls; quote NOOP", tree, back))
				same(t, tree, back)
				same(t, filepath.Join(tree, "d 0"), filepath.Join(s.root, "moved"))
				s.absent(t, "there")
			})
		}
	}
}

// TestRealRefusal: what the node says of a file is what curl ends with.
func TestRealRefusal(t *testing.T) {
	curl := program(t, "curl")
	local := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(local, []byte("123"), 0o666); err != nil {
		t.Fatal(err)
	}
	n := &node{commit: func(context.Context, plugins.Staged) (plugins.Attr, error) { return plugins.Attr{}, errFull }}
	s := serve(t, n)
	out, err := try(t, curl, "-sS", "-v", "--user", user+":"+password, "-T", local, "ftp://"+s.address+"/f")
	if err == nil || !strings.Contains(out, "452 /f: hand on: no space: the disk is full") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = try(t, curl, "-sS", "--user", user+":wrong", "ftp://"+s.address+"/")
	if err == nil || !strings.Contains(out, "denied") {
		t.Errorf("%v: %s", err, out)
	}
	n.empty(t)
}

// TestRealKilled: of what a client was sending that is killed, nothing is published.
func TestRealKilled(t *testing.T) {
	curl := program(t, "curl")
	local := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(local, randomBytes(8<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	for way, more := range map[string][]string{"off": nil, "required": {"--ssl-reqd"}} {
		t.Run(way, func(t *testing.T) {
			some := make(chan bool, 1)
			n := &node{written: func(int64) error {
				select {
				case some <- true:
				default:
				}
				return nil
			}}
			s := serve(t, n, "tls", way)
			cmd := exec.Command(curl, append([]string{"-sS", "-k", "--limit-rate", "200k", "--user", user + ":" + password, "-T", local, "ftp://" + s.address + "/f"}, more...)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-some
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			eventually(t, "it is given up", func() bool { _, _, aborts := n.counts(); return aborts == 1 })
			if _, commits, _ := n.counts(); commits != 0 {
				t.Error("it is committed")
			}
			n.empty(t)
		})
	}
}

// TestRealPython: Python's ftplib, which many scripts are made with, waits for TLS's answer to
// its word of leave, and cannot continue sessions.
func TestRealPython(t *testing.T) {
	python := program(t, "python3")
	for _, o := range [][]string{{"tls", "off"}, {"tls", "required", "tls-reuse", "optional"}} {
		t.Run(o[1], func(t *testing.T) {
			s := serve(t, nil, o...)
			host, port, _ := net.SplitHostPort(s.address)
			out := runs(t, python, "-c", `
import ftplib, io, ssl, sys
tls = sys.argv[3] != "off"
f = ftplib.FTP_TLS(context=ssl._create_unverified_context()) if tls else ftplib.FTP()
f.connect(sys.argv[1], int(sys.argv[2]))
f.login(sys.argv[4], sys.argv[5])
if tls:
    f.prot_p()
print(f.storbinary("STOR a", io.BytesIO(b"x" * 3000000)))
b = io.BytesIO()
f.retrbinary("RETR a", b.write)
assert b.getvalue() == b"x" * 3000000
assert [e[0] for e in f.mlsd()] == ["a"] and f.nlst() == ["a"] and f.size("a") == 3000000
f.set_pasv(False)
f.storlines("STOR b", io.BytesIO(b"a\nb\n"))
f.mkd("d")
f.rename("b", "d/c")
f.quit()
`, host, port, o[1], user, password)
			if !strings.HasPrefix(out, "226 The file is taken: 3000000 bytes.") {
				t.Error(out)
			}
			s.holds(t, "d/c", []byte("a\r\nb\r\n"))
		})
	}
}
