package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/flow/flowtest/ftpserver"
	"github.com/pannier/pannier/flow/flowtest/s3server"
	"github.com/pannier/pannier/flow/flowtest/sshserver"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// bridgeTo has hostb send what it receives to a bridge, whose section is given, and
// returns what sends a file there and how that ended.
func bridgeTo(t *testing.T, section string) (send func(name string, content []byte) *adminpb.Request, said *messages) {
	t.Helper()
	c := newConduit(t)
	rule := "[[rule]]\nname = \"out\"\ndirection = \"send\"\npartners = [\"*\"]\nroot = \"%ROOT%\"\nretry = { attempts = 1 }\n"
	c.write(rule, rule+"post = [{ task = \"bridge\", to = \"box:/in/{name}\" }]\n"+section)
	c.start(c.b, c.a)
	return func(name string, content []byte) *adminpb.Request {
		t.Helper()
		if err := os.WriteFile(filepath.Join(c.a.Root, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		client := c.client(c.a)
		r, err := client.Submit(t.Context(), &adminpb.SubmitRequest{Partner: "hostb", Rule: "out", Source: name, Target: name})
		if err != nil {
			t.Fatal(err)
		}
		end, err := client.Wait(t.Context(), &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: r.GetRequest().GetId()}})
		if err != nil {
			t.Fatal(err)
		}
		return end
	}, c.logB
}

// TestBridge: what a partner has received is at another server, by a plugin, before
// the transfer is done; and where that cannot be, both ends say why.
func TestBridge(t *testing.T) {
	box := t.TempDir()
	if err := os.Mkdir(filepath.Join(box, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	send, said := bridgeTo(t, fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = \"dir\"\nendpoint = \"dir://%s\"\n", box))
	for _, size := range []int{0, 1, 3_000_000} {
		want := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
		if r := send(fmt.Sprint(size), want); r.GetState() != adminpb.Request_DONE {
			t.Errorf("%d bytes: %v", size, r)
		}
		if got, err := os.ReadFile(filepath.Join(box, "in", fmt.Sprint(size))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: the server has %d, %v", size, len(got), err)
		}
	}
	if err := os.RemoveAll(filepath.Join(box, "in")); err != nil {
		t.Fatal(err)
	}
	if r := send("made", []byte("x")); r.GetState() != adminpb.Request_DONE { // with its directory
		t.Errorf("%v", r)
	}
	if err := os.RemoveAll(box); err != nil {
		t.Fatal(err)
	}
	r := send("lost", []byte("x"))
	if r.GetState() != adminpb.Request_INERROR || !strings.Contains(said.String(), `send to box \"/in/lost\": not found`) {
		t.Errorf("%v", r)
	}
}

// TestBridgeLists: the task in the other lists, at either end. Before the bytes move it takes a file
// from a server, which the sender then has and sends; after a failure it brings what there is to one,
// and the failure stays the one that it was.
func TestBridgeLists(t *testing.T) {
	c := newConduit(t)
	box := t.TempDir()
	rule := func(name, direction, lists string) string {
		return fmt.Sprintf("[[rule]]\nname = %q\ndirection = %q\npartners = [\"*\"]\nroot = \"%%ROOT%%\"\nretry = { attempts = 1 }\n%s\n", name, direction, lists)
	}
	take := `pre = [ { task = "bridge", from = "box:/out/{name}" } ]`
	bring := func(end string) string {
		return fmt.Sprintf(`error = [ { task = "bridge", to = "box:/failed/{name}-%s" }, { task = "log", text = "told of {name}" } ]`, end)
	}
	c.write(rule("taken", "send", take)+rule("fetched", "receive", "")+rule("bad", "send", bring("sender"))+dirBridge("box", box),
		rule("taken", "send", "")+rule("fetched", "receive", take)+rule("bad", "send", bring("receiver")+"\npost = [ { task = \"check\", max_size = 10 } ]")+dirBridge("box", box))
	c.start(c.b, c.a)
	client := c.client(c.a)
	end := func(rule, name string) *adminpb.Request {
		t.Helper()
		r, err := client.Submit(t.Context(), &adminpb.SubmitRequest{Partner: "hostb", Rule: rule, Source: name, Target: name})
		if err != nil {
			t.Fatal(err)
		}
		end, err := client.Wait(t.Context(), &adminpb.WaitRequest{Ref: &adminpb.Ref{Id: r.GetRequest().GetId()}})
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	b := noise(3 << 20)
	for _, dir := range []string{"out", "failed"} {
		if err := os.Mkdir(filepath.Join(box, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"taken", "fetched"} {
		c.wrote(filepath.Join(box, "out", name), b)
		if r := end(name, name); r.GetState() != adminpb.Request_DONE {
			t.Errorf("%s: %v", name, r)
		}
		for _, n := range []*nodetest.Node{c.a, c.b} {
			c.has(filepath.Join(n.Root, name), b)
			if all, err := os.ReadDir(n.Root); err != nil || len(all) != map[string]int{"taken": 1, "fetched": 2}[name] {
				t.Errorf("%s: %s has %v, %v", name, n.Name, all, err)
			}
		}
		if r := end(name, "none"); r.GetState() != adminpb.Request_INERROR || fault.Kind(r.GetFailure().GetKind()) != fault.NotFound || !strings.Contains(r.GetFailure().GetCause(), "take from box") {
			t.Errorf("%s: what the server does not have: %v", name, r)
		}
	}

	failed := func(what string) {
		t.Helper()
		if r := end("bad", "large"); r.GetState() != adminpb.Request_INERROR || fault.Kind(r.GetFailure().GetKind()) != fault.Refused || !strings.Contains(r.GetFailure().GetCause(), "at most 10 are wanted") {
			t.Errorf("%s: %v", what, r)
		}
	}
	c.wrote(filepath.Join(c.a.Root, "large"), b)
	failed("refused")
	c.until("both ends have brought it", func() bool { return strings.Contains(c.logB.String(), "told of large") })
	c.has(filepath.Join(box, "failed/large-sender"), b)
	c.has(filepath.Join(box, "failed/large-receiver"), b)
	if err := os.RemoveAll(box); err != nil {
		t.Fatal(err)
	}
	failed("and the server is gone")
}

// TestBridgeArguments: a plugin that is a program with arguments, as an interpreter with
// its script.
func TestBridgeArguments(t *testing.T) {
	box := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(box, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	send, _ := bridgeTo(t, fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = %q\nargs = [%q, \"dir\"]\nendpoint = \"dir://%s\"\n", self, host.EntryArgument, box))
	if r := send("a", []byte("content")); r.GetState() != adminpb.Request_DONE {
		t.Errorf("%v", r)
	}
	if got, err := os.ReadFile(filepath.Join(box, "in", "a")); err != nil || string(got) != "content" {
		t.Errorf("the server has %q, %v", got, err)
	}
}

// TestBridgeFTP: the same with three real servers, and a wrong password.
func TestBridgeFTP(t *testing.T) {
	for _, kind := range ftpserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			f := ftpserver.Start(t, kind)
			in := filepath.Join(f.Data, "in")
			if err := os.Mkdir(in, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(in, 0o777); err != nil {
				t.Fatal(err)
			}
			credentials := filepath.Join(t.TempDir(), "box")
			login := func(password string) {
				t.Helper()
				if err := os.WriteFile(credentials, fmt.Appendf(nil, `{"user": %q, "password": %q}`, f.User, password), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			login("wrong")
			send, said := bridgeTo(t, fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = \"ftp\"\nendpoint = \"ftp://%s\"\ncredentials = \"file:%s\"\n", f.Address, credentials))
			if kind != "vsftpd" { // which lets anybody in
				if r := send("refused", []byte("x")); r.GetState() != adminpb.Request_INERROR || !strings.Contains(said.String(), `send to box \"/in/refused\": refused: `) || !strings.Contains(said.String(), "530 ") {
					t.Errorf("%v", r)
				}
			}
			login(f.Password)
			want := bytes.Repeat([]byte("abcdefg"), 1_000_000)
			if r := send("file", want); r.GetState() != adminpb.Request_DONE {
				t.Errorf("%v", r)
			}
			if got, err := os.ReadFile(filepath.Join(in, "file")); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the server has %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestBridgeS3: the same with a real server, files of one part and of several, and a wrong
// secret key.
func TestBridgeS3(t *testing.T) {
	f := s3server.Start(t, false)
	credentials := filepath.Join(t.TempDir(), "box")
	login := func(secret string) {
		t.Helper()
		if err := os.WriteFile(credentials, fmt.Appendf(nil, `{"user": %q, "password": %q}`, s3server.AccessKey, secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	login("wrong")
	send, said := bridgeTo(t, fmt.Sprintf("[[bridge]]\nname = \"box\"\nplugin = \"s3\"\nendpoint = %q\ncredentials = \"file:%s\"\n", f.URL, credentials))
	if r := send("refused", []byte("x")); r.GetState() != adminpb.Request_INERROR || !strings.Contains(said.String(), "SignatureDoesNotMatch") {
		t.Errorf("%v", r)
	}
	login(s3server.SecretKey)
	for _, size := range []int{0, 7, 21_000_000} {
		want := bytes.Repeat([]byte("abcdefg"), size/7)
		if r := send(fmt.Sprint(size), want); r.GetState() != adminpb.Request_DONE {
			t.Errorf("%d bytes: %v", size, r)
		}
		if got, err := os.ReadFile(filepath.Join(f.Data, "in", fmt.Sprint(size))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: the server has %d, %v", size, len(got), err)
		}
	}
}

// sftpAt is a bridge to a directory at an sshd.
func sftpAt(t *testing.T, s *sshserver.Server, name, dir, hostkey string) string {
	t.Helper()
	key, err := os.ReadFile(s.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"user": s.User, "secrets": map[string]string{"key": string(key)}})
	if err != nil {
		t.Fatal(err)
	}
	credentials := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(credentials, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("[[bridge]]\nname = %q\nplugin = \"sftp\"\nendpoint = \"sftp://%s/%s\"\ncredentials = \"file:%s\"\noptions = [\"hostkey=%s\"]\n", name, s.Address(), dir, credentials, hostkey)
}

// TestBridgeSFTP: the same with the system's sshd, and another host key than the pinned one.
func TestBridgeSFTP(t *testing.T) {
	s, box := sshserver.Start(t), t.TempDir()
	if err := os.Mkdir(filepath.Join(box, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	section := func(hostkey string) string { return sftpAt(t, s, "box", box, hostkey) }
	send, _ := bridgeTo(t, section(s.HostKey))
	want := bytes.Repeat([]byte("abcdefg"), 1_000_000)
	if r := send("file", want); r.GetState() != adminpb.Request_DONE {
		t.Errorf("%v", r)
	}
	if got, err := os.ReadFile(filepath.Join(box, "in", "file")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the server has %d bytes, %v", len(got), err)
	}
	send, said := bridgeTo(t, section("SHA256:"+strings.Repeat("A", 43)))
	if r := send("refused", []byte("x")); r.GetState() != adminpb.Request_INERROR || !strings.Contains(said.String(), s.HostKey) {
		t.Errorf("%v", r)
	}
}
