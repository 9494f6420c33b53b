package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/flow/flowtest/freeport"
)

// webServer is the system's nginx: a folder that is served and may be written to.
type webServer struct {
	plain, told string // addresses: told wants a PROXY header first
	socket      string // path: so does this
	dir, log    string // what is served; a line for each request
}

func newWebServer(t *testing.T) *webServer {
	t.Helper()
	nginx := systemProgram(t, "nginx", "nginx")
	dir := t.TempDir()
	w := &webServer{plain: freeport.For(t, "127.0.0.1"), told: freeport.For(t, "127.0.0.1"), socket: filepath.Join(dir, "s"), dir: filepath.Join(dir, "www"), log: filepath.Join(dir, "log")}
	if err := os.Mkdir(w.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	temp := ""
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s/%s;\n", name, dir, name)
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; worker_processes 1; %[2]s
events { worker_connections 512; }
http {
	%[3]s
	log_format told '$request_uri by $proxy_protocol_addr:$proxy_protocol_port at $proxy_protocol_server_addr:$proxy_protocol_server_port';
	access_log %[1]s/log told;
	client_max_body_size 0;
	server {
		listen %[4]s;
		listen %[5]s proxy_protocol;
		listen unix:%[6]s proxy_protocol;
		root %[7]s;
		location / { dav_methods PUT; }
	}
}
`, dir, user, temp, w.plain, w.told, w.socket, w.dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	service(t, nginx, "-e", "stderr", "-c", config)
	listens(t, w.plain)
	return w
}

// put makes a file of random bytes, and says its digest.
func put(t *testing.T, path string, size int) (digest [32]byte) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.Read(data)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

func digestOf(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// TestRelayNginx: the system's curl talks to the system's nginx through relays: a connection
// that is kept alive, large files both ways, many at once, and by SOCKS5 and CONNECT.
func TestRelayNginx(t *testing.T) {
	web := newWebServer(t)
	curl := systemProgram(t, "curl", "curl")
	fetch := func(args ...string) string {
		t.Helper()
		return runs(t, append([]string{curl, "-sSf", "--noproxy", ""}, args...)...)
	}
	c := newConduit(t)
	to := "tcp://" + web.plain
	section := func(name, accept string) string {
		return fmt.Sprintf("[[relay]]\nname = %q\nsession = \"hostb\"\naccept = %q\nallow = [\"hostb\"]\n", name, accept)
	}
	c.write(relaySection("web", freePort, "here", to)+relaySection("back", freePort, "there", to)+section("socks", "socks5://127.0.0.1:0")+section("proxy", "http://127.0.0.1:0"),
		fmt.Sprintf("[[relay_policy]]\npartner = \"hosta\"\ndial = [%q]\nlisten = [\"tcp://127.0.0.1:*\"]\n", to))
	c.start(c.b, c.a)
	const size = 48 << 20
	large := put(t, filepath.Join(web.dir, "large"), size)
	small := put(t, filepath.Join(web.dir, "small"), 1000)
	dir := t.TempDir()
	for _, name := range []string{"web", "back"} {
		url := "http://" + c.at(c.a, name)
		if got := fetch("-w", "%{num_connects} ", url+"/small", "-o", dir+"/1", url+"/small", "-o", dir+"/2", url+"/small", "-o", dir+"/3"); got != "1 0 0 " {
			t.Errorf("%s: connections made for three requests: %s", name, got)
		}
		fetch(url+"/large", "-o", dir+"/large")
		if digestOf(t, dir+"/large") != large {
			t.Errorf("%s: the large file came as another one", name)
		}
		fetch("-T", dir+"/large", url+"/up-"+name)
		if digestOf(t, web.dir+"/up-"+name) != large {
			t.Errorf("%s: the large file went as another one", name)
		}
		fetch("-Z", "--parallel-max", "40", url+"/small?[1-200]", "-o", dir+"/"+name+"-#1")
		for i := range 200 {
			if digestOf(t, fmt.Sprintf("%s/%s-%d", dir, name, i+1)) != small {
				t.Errorf("%s: number %d came as another one", name, i+1)
			}
		}
	}
	for name, flags := range map[string][]string{"socks": {"--socks5-hostname"}, "proxy": {"-p", "-x"}} {
		flags = append(flags, strings.TrimPrefix(strings.TrimPrefix(c.at(c.a, name), "socks5://"), "http://"))
		fetch(append(flags, "http://"+web.plain+"/large", "-o", dir+"/"+name)...)
		if digestOf(t, dir+"/"+name) != large {
			t.Errorf("%s: the large file came as another one", name)
		}
		if out, err := tries(t, append([]string{curl, "-sSf", "--noproxy", "", "-m", "60", "http://127.0.0.1:1/"}, flags...)...); err == nil {
			t.Errorf("%s: a destination that is not allowed: %s", name, out)
		}
		c.logged(c.logB, "not relayed", "relay="+name, "to=tcp://127.0.0.1:1", "permission denied")
	}
	for _, n := range []struct{ name, what string }{{"web", "a"}, {"back", "a"}, {"socks", "a"}, {"proxy", "a"}} {
		c.until(n.name+" has no connection", func() bool { return c.relay(c.a, n.name).GetCounts().GetOpen() == 0 })
		if r := c.relay(c.a, n.name).GetCounts(); r.GetFailed() > 0 {
			t.Errorf("%s: %v", n.name, r)
		}
	}
}

// TestRelayNginxProxyProtocol: nginx knows its clients by the PROXY header of the node that connects,
// at either place, and by nothing that clients say themselves; without the policy's word there is
// none.
func TestRelayNginxProxyProtocol(t *testing.T) {
	web := newWebServer(t)
	curl := systemProgram(t, "curl", "curl")
	put(t, filepath.Join(web.dir, "small"), 1000)
	c := newConduit(t)
	told, socket := "tcp://"+web.told, "unix://"+web.socket
	in := filepath.Join(c.a.Dir, "in")
	c.write(relaySection("told", freePort, "here", told)+relaySection("socket", freePort, "here", socket)+relaySection("untold", freePort, "here", told)+
		relaySection("local", "unix://"+in, "here", told)+relaySection("back", freePort, "there", told)+"proxy_protocol = true\n",
		fmt.Sprintf("[[relay_policy]]\npartner = \"hosta\"\nrelay = \"untold\"\ndial = [%q]\n[[relay_policy]]\npartner = \"hosta\"\ndial = [%q, %q]\nlisten = [\"tcp://127.0.0.1:*\"]\nproxy_protocol = true\n", told, told, socket))
	c.start(c.b, c.a)
	logs := func(want string) {
		t.Helper()
		c.until("nginx logs "+want, func() bool {
			text, _ := os.ReadFile(web.log)
			return strings.Contains(string(text), want+"\n")
		})
	}
	for _, name := range []string{"told", "socket", "back"} {
		at := c.at(c.a, name)
		port := runs(t, curl, "-sSf", "-o", os.DevNull, "-w", "%{local_port}", "http://"+at+"/small?"+name)
		logs(fmt.Sprintf("/small?%s by 127.0.0.1:%s at %s", name, port, at))
	}
	runs(t, curl, "-sSf", "-o", os.DevNull, "--unix-socket", in, "http://x/small?local")
	logs("/small?local by -:- at -:-")
	if out, err := tries(t, curl, "-sSf", "-m", "60", "http://"+c.at(c.a, "untold")+"/small?untold"); err == nil {
		t.Errorf("without a header: %s", out)
	}
	// a client that brings a header of its own
	for _, lie := range []string{"PROXY TCP4 6.6.6.6 7.7.7.7 1 2\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x06\x06\x06\x06\x07\x07\x07\x07\x00\x01\x00\x02"} {
		conn := c.dial(c.at(c.a, "told"))
		_, _ = io.WriteString(conn, lie+"GET /small?lie HTTP/1.0\r\n\r\n")
		if reply, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && reply.StatusCode != http.StatusBadRequest {
			t.Errorf("a header of the client's: %s", reply.Status)
		}
		conn.(*net.TCPConn).Close()
	}
	text, err := os.ReadFile(web.log)
	if err != nil || strings.Contains(string(text), "6.6.6.6") || strings.Contains(string(text), "untold") {
		t.Errorf("%v: nginx logs\n%s", err, text)
	}
}
