package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/host"
	"github.com/pannier/pannier/plugins/plugintest"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// desk is an engine that ends requests as it is told, and a partner with files.
type desk struct {
	t         *testing.T
	mu        sync.Mutex
	book      engine.Book
	send, get string // roots
	far       string // of the partner's files
	end       func(r *lifecycle.Record) error
	orders    []engine.Order
	cancelled []store.Ref
	tooLate   bool   // to cancel
	refuse    error  // of Submit
	submits   func() // called by Submit before anything else; nil: nothing is
	records   map[store.Ref]lifecycle.Record
}

func (d *desk) Submit(_ context.Context, o engine.Order) (lifecycle.Record, bool, error) {
	if d.submits != nil {
		d.submits()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.orders = append(d.orders, o)
	r := lifecycle.Record{Key: lifecycle.Key{Requester: "a", ID: o.ID}, Role: lifecycle.Requester, Spec: lifecycle.Spec{Partner: o.Partner, Rule: o.Rule, Source: o.Source, Target: o.Target}}
	if r.File = o.Target; r.File.IsZero() {
		r.File, r.Side = o.Source, lifecycle.Sender
	}
	if d.refuse != nil {
		return r, false, d.refuse
	}
	d.records[store.RefOf(&r)] = r
	return r, true, nil
}

func (d *desk) Wait(ctx context.Context, ref store.Ref) (lifecycle.Record, error) {
	d.mu.Lock()
	r := d.records[ref]
	d.mu.Unlock()
	r.State, r.Verified = lifecycle.Done, "blocks+root"
	if d.end != nil {
		if err := d.end(&r); err != nil {
			<-ctx.Done()
			return r, fault.Wrap("wait", "", ctx.Err())
		}
	}
	if r.Spec.Rule == "get" && r.State == lifecycle.Done {
		from := filepath.Join(d.far, r.Spec.Source.String())
		if _, err := os.Stat(from); err != nil {
			r.State, r.Failure = lifecycle.InError, lifecycle.Failure{Kind: fault.NotFound, Told: "no such file"}
			return r, nil
		}
		to := filepath.Join(d.get, r.Spec.Target.String())
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Link(from, to)); err != nil { // however large
			d.t.Fatal(err)
		}
	}
	return r, nil
}

func (d *desk) Cancel(_ context.Context, ref store.Ref, _ string) (lifecycle.Record, error) {
	if d.tooLate {
		return d.records[ref], fault.New("cancel", fault.Refused, "the file has its name")
	}
	d.cancelled = append(d.cancelled, ref)
	return d.records[ref], nil
}

func (d *desk) Get(_ context.Context, ref store.Ref) (engine.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.records[ref]
	if !ok {
		return engine.Status{}, fault.New("get", fault.NotFound, "none")
	}
	return engine.Status{Record: r}, nil
}

func (d *desk) Find(_ context.Context, q store.Query) iter.Seq2[engine.Status, error] {
	return func(yield func(engine.Status, error) bool) {
		d.mu.Lock()
		all := maps.Clone(d.records)
		d.mu.Unlock()
		for _, r := range all {
			if q.Matches(&r) && !yield(engine.Status{Record: r}, nil) {
				return
			}
		}
	}
}

func (d *desk) Book() engine.Book { return d.book }

func (d *desk) Stat(_ context.Context, _, _ string, name relpath.Path) (plugins.Attr, error) {
	fi, err := os.Stat(filepath.Join(d.far, name.String()))
	if err != nil {
		return plugins.Attr{}, fault.Wrap("stat", "", err)
	}
	return plugins.Attr{Size: fi.Size(), Modified: fi.ModTime(), Dir: fi.IsDir()}, nil
}

func (d *desk) List(_ context.Context, _, _ string, dir relpath.Path, yield func(plugins.Attr) bool) error {
	all, err := os.ReadDir(filepath.Join(d.far, dir.String()))
	for _, e := range all {
		if fi, err := e.Info(); err == nil && !yield(plugins.Attr{Name: e.Name(), Size: fi.Size(), Dir: e.IsDir()}) {
			return nil
		}
	}
	return fault.Wrap("list", "", err)
}

func newDesk(t *testing.T) (*desk, *Node) {
	d := &desk{t: t, send: t.TempDir(), get: t.TempDir(), far: t.TempDir(), records: map[store.Ref]lifecycle.Record{}}
	d.book.Rules = map[string]*engine.Rule{
		"send": {Name: "send", Direction: engine.Send, Partners: []string{"b"}, Root: d.send, Quota: 1 << 20},
		"get":  {Name: "get", Direction: engine.Receive, Partners: []string{"b"}, Root: d.get, Quota: sideeffect.NoQuota},
	}
	n := &Node{Listener: "x", Engine: d, Far: d, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	return d, n
}

func secretFile(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpen: who is let in.
func TestOpen(t *testing.T) {
	_, n := newDesk(t)
	long := strings.Repeat("x", 100)
	hash, err := Hash("secret")
	if err != nil {
		t.Fatal(err)
	}
	hashLong, _ := Hash(long)
	n.SetUsers([]User{
		{Name: "pw", Password: secretFile(t, hash+"\n", 0o600), Partner: "b", Send: "send"},
		{Name: "long", Password: secretFile(t, hashLong, 0o644), Partner: "b", Send: "send"},
		{Name: "open", Password: secretFile(t, hash, 0o666), Partner: "b", Send: "send"},
		{Name: "clear", Password: secretFile(t, "secret", 0o600), Partner: "b", Send: "send"},
		{Name: "key", Keys: secretFile(t, "# mine\nssh-ed25519 AAAAC3 me@here\nfrom=\"x\" ssh-rsa BBBB\n", 0o600), Partner: "b", Send: "send"},
		{Name: "none", Partner: "b", Send: "send"},
	})
	key := func(k string) map[string]string { return map[string]string{"key": k} }
	for _, c := range []struct {
		name string
		who  plugins.Endpoint
		in   bool
	}{
		{"right", plugins.Endpoint{User: "pw", Password: "secret"}, true},
		{"wrong", plugins.Endpoint{User: "pw", Password: "Secret"}, false},
		{"empty", plugins.Endpoint{User: "pw"}, false},
		{"long", plugins.Endpoint{User: "long", Password: long}, true},
		{"long, cut", plugins.Endpoint{User: "long", Password: long[:72]}, false},
		{"a file others may write to", plugins.Endpoint{User: "open", Password: "secret"}, false},
		{"no hash", plugins.Endpoint{User: "clear", Password: "secret"}, false},
		{"nobody", plugins.Endpoint{User: "nobody", Password: "secret"}, false},
		{"key", plugins.Endpoint{User: "key", Secrets: key("ssh-ed25519 AAAAC3 other comment")}, true},
		{"key offered", plugins.Endpoint{User: "key", Secrets: map[string]string{"offered": "ssh-ed25519 AAAAC3"}}, true},
		{"other key", plugins.Endpoint{User: "key", Secrets: key("ssh-ed25519 AAAAC4")}, false},
		{"other kind", plugins.Endpoint{User: "key", Secrets: key("ssh-rsa AAAAC3")}, false},
		{"key with options", plugins.Endpoint{User: "key", Secrets: key("ssh-rsa BBBB")}, false},
		{"no key", plugins.Endpoint{User: "key", Secrets: key("#")}, false},
		{"password of one with keys", plugins.Endpoint{User: "key", Password: "secret"}, false},
		{"key of one with a password", plugins.Endpoint{User: "pw", Secrets: key("ssh-ed25519 AAAAC3")}, false},
		{"neither", plugins.Endpoint{User: "none"}, false},
	} {
		s, err := n.Open(t.Context(), c.who)
		if c.in != (err == nil) || c.in != (s != nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	s, err := n.Open(t.Context(), plugins.Endpoint{User: "key", Secrets: map[string]string{"offered": "ssh-ed25519 AAAAC3"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := uploaded(s, "/x", nil); fault.KindOf(err) != fault.Permission {
		t.Error("with a key that was only offered:", err)
	}
	if _, err := Hash(""); err == nil {
		t.Error("an empty password has a hash")
	}
}

func (d *desk) guest(n *Node, u User) plugins.Session {
	u.Name, u.Partner = "me", "b"
	n.SetUsers([]User{u})
	return n.session(u, "1.2.3.4:5")
}

func uploaded(s plugins.Session, name string, b []byte) (plugins.Attr, error) {
	st, err := s.(plugins.Writer).Write(context.Background(), name, plugins.WriteRequest{Size: -1})
	if err != nil {
		return plugins.Attr{}, err
	}
	if _, err := st.Write(b); err != nil {
		_, _ = st.Abort(context.Background(), false)
		return plugins.Attr{}, err
	}
	return st.Commit(context.Background())
}

// TestUpload: the answer is the request's.
func TestUpload(t *testing.T) {
	d, n := newDesk(t)
	s := d.guest(n, User{Send: "send", Wait: 50 * time.Millisecond})
	a, err := uploaded(s, "/in/x", []byte("hello"))
	if err != nil || a.Size != 5 || a.Verified != "blocks+root" {
		t.Errorf("%+v, %v", a, err)
	}
	if o := d.orders[0]; o.Partner != "b" || o.Rule != "send" || o.Source.String() != "in/x" || !strings.Contains(o.Info, "me from 1.2.3.4") {
		t.Errorf("%+v", o)
	}
	if b, err := os.ReadFile(filepath.Join(d.send, "in/x")); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	d.end = func(r *lifecycle.Record) error {
		r.State, r.Failure = lifecycle.InError, lifecycle.Failure{Kind: fault.QuotaExceeded, Told: "too big there"}
		return nil
	}
	if _, err := uploaded(s, "/y", []byte("x")); fault.KindOf(err) != fault.QuotaExceeded || !strings.Contains(err.Error(), "too big there") {
		t.Error(err)
	}
	d.end = func(*lifecycle.Record) error { return errors.New("wait") }
	if _, err := uploaded(s, "/z", []byte("x")); fault.KindOf(err) != fault.Deadline || !strings.Contains(err.Error(), "it goes on") {
		t.Error(err)
	}
	d.end = func(r *lifecycle.Record) error {
		r.Failure = lifecycle.Failure{Kind: fault.NoSpace, Told: "nothing free there"}
		return errors.New("wait")
	}
	if _, err := uploaded(s, "/z", []byte("x")); fault.KindOf(err) != fault.Deadline || !strings.Contains(err.Error(), "it goes on, after no space, nothing free there") {
		t.Error(err)
	}
	if _, err := uploaded(d.guest(n, User{Send: "send"}), "/at once", []byte("x")); err != nil {
		t.Error(err)
	}
	number := len(d.orders)
	for _, c := range []struct {
		name string
		user User
		file string
		size int
		kind fault.Kind
	}{
		{"may not", User{Get: "get"}, "/x", 1, fault.Permission},
		{"too large", User{Send: "send"}, "/x", 1<<20 + 1, fault.QuotaExceeded},
		{"root", User{Send: "send"}, "/", 1, fault.Invalid},
		{"out", User{Send: "send"}, "/../x", 1, fault.Invalid},
		{"own", User{Send: "send"}, "/.x.pannier-r1", 1, fault.Invalid},
		{"a line", User{Send: "send"}, "/x\r\nDELE y", 1, fault.Invalid},
		{"no rule any more", User{Send: "gone"}, "/x", 1, fault.Draining},
		{"a directory's", User{Send: "send"}, "/in", 1, fault.Invalid},
	} {
		if _, err := uploaded(d.guest(n, c.user), c.file, make([]byte, c.size)); fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v, not %v", c.name, err, c.kind)
		}
	}
	if len(d.orders) != number {
		t.Errorf("%d requests were made of what was refused", len(d.orders)-number)
	}
	left, _ := filepath.Glob(filepath.Join(d.send, ".*"))
	if len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// TestUploadOnItsWay: a request that is open would send a newer file of its name, and who has uploaded
// the older one would be told that it has arrived. So nothing takes its place before it has ended, and
// the request is for that file and no other.
func TestUploadOnItsWay(t *testing.T) {
	d, n := newDesk(t)
	s := d.guest(n, User{Send: "send"})
	up := func(name, text string, want fault.Kind) {
		t.Helper()
		if _, err := uploaded(s, name, []byte(text)); want == 0 && err != nil || want != 0 && fault.KindOf(err) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	are := func(state lifecycle.State) {
		for ref, r := range d.records {
			r.State = state
			d.records[ref] = r
		}
	}
	has := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(filepath.Join(d.send, "x")); string(b) != want {
			t.Errorf("x has %q, %v", b, err)
		}
	}
	up("/x", "first", 0)
	for _, state := range []lifecycle.State{lifecycle.ToSubmit, lifecycle.Running, lifecycle.Interrupted} {
		are(state)
		up("/x", "taken", fault.Overloaded)
		has("first")
	}
	up("/y", "another", 0)
	for _, state := range []lifecycle.State{lifecycle.Done, lifecycle.InError} {
		are(state)
		up("/x", "free "+state.String(), 0)
		has("free " + state.String())
	}
	d.book.Rules["send"].Sender.Pre = []task.Step{{Other: true}}
	up("/z", "may be written to", 0)
	versions := map[string]bool{"x": true, "y": true, "z": false}
	for _, o := range d.orders {
		fi, err := os.Stat(filepath.Join(d.send, o.Source.String()))
		if err != nil || versions[o.Source.String()] == o.Version.IsZero() {
			t.Errorf("%v of version %v, %v", o.Source, o.Version, err)
		}
		if same := sideeffect.VersionOf(fi).Touched(o.Version); o.Source.String() == "y" && !same || o.Source.String() == "x" && same != (o.ID == d.orders[len(d.orders)-2].ID) {
			t.Errorf("the order of %v is of another file: %v", o.Source, same)
		}
	}
	d.book.Rules["send"].Exists = engine.Refuse
	d.refuse = fault.New("submit", fault.Draining, "later")
	up("/w", "cannot be requested", fault.Draining)
	d.refuse = nil
	up("/w", "again", 0)
	up("/w", "taken", fault.Exists)
	if left, _ := filepath.Glob(filepath.Join(d.send, ".*")); len(left) > 0 || len(naming.now) > 0 || len(n.files.now) > 0 {
		t.Errorf("left over: %q, %v, %v", left, naming.now, n.files.now)
	}
}

// TestManyFiles: one user has no more than so many under way.
func TestManyFiles(t *testing.T) {
	d, n := newDesk(t)
	if err := os.WriteFile(filepath.Join(d.far, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := d.guest(n, User{Send: "send", Get: "get"})
	var all []plugins.Staged
	for i := range mostFiles - 1 {
		st, err := s.(plugins.Writer).Write(t.Context(), fmt.Sprint("/", i), plugins.WriteRequest{Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, st)
	}
	r, err := s.Read(t.Context(), "/x", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := uploaded(s, "/more", nil); fault.KindOf(err) != fault.Overloaded {
		t.Error(err)
	}
	if _, err := s.Read(t.Context(), "/x", 0); fault.KindOf(err) != fault.Overloaded {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := uploaded(s, "/more", nil); err != nil {
		t.Error(err)
	}
	for i, st := range all {
		if i%2 == 0 {
			_, err = st.Abort(t.Context(), false)
		} else {
			_, err = st.Commit(t.Context())
		}
		if err != nil {
			t.Error(err)
		}
	}
	if len(n.files.now) > 0 {
		t.Errorf("still under way: %v", n.files.now)
	}
}

// TestUserChanged: who has logged in as a user that is not there any more can do nothing.
func TestUserChanged(t *testing.T) {
	d, n := newDesk(t)
	s := d.guest(n, User{Send: "send"})
	if _, err := uploaded(s, "/x", nil); err != nil {
		t.Fatal(err)
	}
	for _, users := range [][]User{nil, {{Name: "me", Partner: "b", Get: "get"}}} {
		n.SetUsers(users)
		_, write := uploaded(s, "/y", nil)
		_, read := s.Read(t.Context(), "/x", 0)
		_, stat := s.Stat(t.Context(), "/x")
		var list error
		for _, list = range s.(plugins.Lister).List(t.Context(), "/") {
		}
		for _, err := range []error{write, read, stat, list, s.(plugins.Maker).Mkdir(t.Context(), "/d")} {
			if fault.KindOf(err) != fault.Permission {
				t.Error(err)
			}
		}
	}
}

// TestHashing: passwords are not tried more at a time than there are places.
func TestHashing(t *testing.T) {
	_, n := newDesk(t)
	n.SetUsers(nil)
	for range cap(hashing) {
		hashing <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := n.Open(ctx, plugins.Endpoint{User: "me", Password: "x"})
	for range cap(hashing) {
		<-hashing
	}
	if fault.KindOf(err) != fault.Deadline {
		t.Error("when it could not be looked at:", err)
	}
	if _, err := n.Open(t.Context(), plugins.Endpoint{User: "me", Password: "x"}); fault.KindOf(err) != fault.Unauthenticated || len(hashing) > 0 {
		t.Error(err)
	}
}

// TestAbort: what was not committed leaves nothing, and is no request.
func TestAbort(t *testing.T) {
	d, n := newDesk(t)
	s := d.guest(n, User{Send: "send"}).(plugins.Writer)
	ctx, cancel := context.WithCancel(t.Context())
	st, err := s.Write(ctx, "/x", plugins.WriteRequest{Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := st.Write([]byte("def")); err == nil {
		t.Error("it writes on")
	}
	if _, err := st.Abort(t.Context(), true); err != nil {
		t.Error(err)
	}
	if _, err := st.Commit(t.Context()); err == nil {
		t.Error("it commits what was aborted")
	}
	if all, _ := os.ReadDir(d.send); len(all) > 0 || len(d.orders) > 0 {
		t.Errorf("%v, %v", all, d.orders)
	}
}

// TestDownload: a request fetches it, and nothing stays here.
func TestDownload(t *testing.T) {
	d, n := newDesk(t)
	if err := os.WriteFile(filepath.Join(d.far, "x"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := d.guest(n, User{Get: "get"})
	for offset, want := range []string{"hello", "ello", 5: ""} {
		if offset > 1 && offset < 5 {
			continue
		}
		r, err := s.Read(t.Context(), "/x", int64(offset))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || string(b) != want {
			t.Errorf("from %d: %q, %v", offset, b, err)
		}
	}
	if _, err := s.Read(t.Context(), "/x", 6); fault.KindOf(err) != fault.Invalid {
		t.Error(err)
	}
	if _, err := s.Read(t.Context(), "/none", 0); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
	if all, _ := os.ReadDir(d.get); len(all) > 0 {
		t.Errorf("left: %v", all)
	}
	if a, err := s.Stat(t.Context(), "/x"); err != nil || a.Size != 5 || a.Name != "/x" {
		t.Errorf("%+v, %v", a, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d.end = func(*lifecycle.Record) error { cancel(); return errors.New("wait") }
	if _, err := s.Read(ctx, "/x", 0); err == nil || len(d.cancelled) != 1 {
		t.Errorf("%v, %v", err, d.cancelled)
	}
	if _, err := d.guest(n, User{Send: "send"}).Read(t.Context(), "/x", 0); fault.KindOf(err) != fault.Permission {
		t.Error(err)
	}
}

// TestDownloadShared: who reads a file in several places at a time has it fetched once, and all are of
// one version; it stays until the last is done, and then it is fetched anew.
func TestDownloadShared(t *testing.T) {
	d, n := newDesk(t)
	far := filepath.Join(d.far, "x")
	if err := os.WriteFile(far, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := d.guest(n, User{Get: "get"})
	var readers []io.ReadCloser
	open := func(offset int64) {
		t.Helper()
		r, err := s.Read(t.Context(), "/x", offset)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	open(0)
	if err := errors.Join(os.Remove(far), os.WriteFile(far, []byte("WORLD"), 0o644)); err != nil {
		t.Fatal(err)
	}
	open(1)
	open(4)
	if len(d.orders) != 1 {
		t.Errorf("it is fetched %d times", len(d.orders))
	}
	for i, want := range []string{"hello", "ello", "o"} {
		b, err := io.ReadAll(readers[i])
		if err != nil || string(b) != want {
			t.Errorf("reader %d: %q, %v", i, b, err)
		}
		if all, _ := os.ReadDir(d.get); len(all) != 1 {
			t.Errorf("before reader %d is closed there is %v", i, all)
		}
		if err := readers[i].Close(); err != nil {
			t.Error(err)
		}
		if err := readers[i].Close(); err == nil {
			t.Error("closed twice, it is given up twice")
		}
	}
	if all, _ := os.ReadDir(d.get); len(all) > 0 || len(n.files.now) > 0 {
		t.Errorf("left: %v, %v", all, n.files.now)
	}
	open(0)
	if b, err := io.ReadAll(readers[3]); err != nil || string(b) != "WORLD" || len(d.orders) != 2 {
		t.Errorf("then: %q, %v, fetched %d times", b, err, len(d.orders))
	}
	if err := readers[3].Close(); err != nil {
		t.Error(err)
	}

	// Who waits for another's request, which is given up, makes one of its own.
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	begun := make(chan struct{})
	d.end = func(*lifecycle.Record) (err error) {
		once.Do(func() { close(begun); err = errors.New("wait") })
		return err
	}
	first := make(chan error, 1)
	go func() {
		_, err := s.Read(ctx, "/x", 0)
		first <- err
	}()
	<-begun
	slow := func() *fetch { // of a third, who does not leave before the others
		own := s.(*session)
		own.mu.Lock()
		defer own.mu.Unlock()
		f := own.fetches["/x"]
		f.readers++
		return f
	}()
	second := make(chan error, 1)
	go func() {
		r, err := s.Read(t.Context(), "/x", 0)
		if err == nil {
			err = r.Close()
		}
		second <- err
	}()
	cancel()
	if err := <-first; fault.KindOf(err) != fault.Canceled {
		t.Error(err)
	}
	if own := s.(*session); func() bool { own.mu.Lock(); defer own.mu.Unlock(); return own.fetches["/x"] == slow }() {
		t.Fatal("what was given up is found again, for ever")
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	slow.leave()
	if all, _ := os.ReadDir(d.get); len(all) > 0 || len(n.files.now) > 0 {
		t.Errorf("left: %v, %v", all, n.files.now)
	}
}

// TestDownloadCanceled: what an operator cancels is not fetched again for others who wait for it.
func TestDownloadCanceled(t *testing.T) {
	d, n := newDesk(t)
	s := d.guest(n, User{Get: "get"})
	begun, end := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.end = func(r *lifecycle.Record) error {
		once.Do(func() { close(begun) })
		<-end
		r.State, r.Failure = lifecycle.InError, lifecycle.Failure{Kind: fault.Canceled, Told: "not wanted"}
		return nil
	}
	ended := make(chan error, 2)
	read := func() {
		_, err := s.Read(t.Context(), "/x", 0)
		ended <- err
	}
	go read()
	<-begun
	go read()
	own := s.(*session)
	waits := func() bool {
		own.mu.Lock()
		defer own.mu.Unlock()
		return own.fetches["/x"].readers == 2
	}
	for !waits() {
		time.Sleep(time.Millisecond)
	}
	close(end)
	for range 2 {
		if err := <-ended; fault.KindOf(err) != fault.Canceled {
			t.Error(err)
		}
	}
	if len(d.orders) != 1 || len(n.files.now) > 0 {
		t.Errorf("%d requests, %v", len(d.orders), n.files.now)
	}
}

// TestDownloadOfOthers: where downloads lie until they are over is nobody's, whatever rules have the
// same root.
func TestDownloadOfOthers(t *testing.T) {
	d, n := newDesk(t)
	dir := fetched + lifecycle.ID{7}.String()
	at := filepath.Join(d.send, dir)
	if err := errors.Join(os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(at, "x"), []byte("theirs"), 0o644), os.Mkdir(filepath.Join(d.send, "guest-house"), 0o755)); err != nil {
		t.Fatal(err)
	}
	s := d.guest(n, User{Send: "send"})
	var names []string
	for a, err := range s.(plugins.Lister).List(t.Context(), "/") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, a.Name)
	}
	if len(names) != 1 || names[0] != "guest-house" {
		t.Errorf("listed: %q", names)
	}
	_, stat := s.Stat(t.Context(), "/"+dir+"/x")
	_, write := uploaded(s, "/"+dir+"/x", []byte("mine"))
	var list error
	for _, list = range s.(plugins.Lister).List(t.Context(), "/"+dir) {
	}
	for _, err := range []error{stat, write, list, s.(plugins.Maker).Mkdir(t.Context(), "/"+dir+"/d")} {
		if fault.KindOf(err) != fault.NotFound {
			t.Error(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(at, "x")); err != nil || string(b) != "theirs" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := uploaded(s, "/guest-house/x", nil); err != nil {
		t.Error(err)
	}
}

// TestDownloadLeft: nothing stays of a download that failed, whose file tasks have moved or deleted,
// or that nobody waits for since the node died.
func TestDownloadLeft(t *testing.T) {
	d, n := newDesk(t)
	if err := os.WriteFile(filepath.Join(d.far, "x"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := d.guest(n, User{Get: "get"})
	made := func(r *lifecycle.Record) {
		dir := filepath.Join(d.get, r.Spec.Target.Dir().String())
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, ".x.pannier-r1"), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	left := func(what string) {
		t.Helper()
		if all, _ := filepath.Glob(filepath.Join(d.get, "guest-*")); len(all) > 0 || len(n.files.now) > 0 {
			t.Errorf("%s: left %v, %v", what, all, n.files.now)
		}
	}
	d.end = func(r *lifecycle.Record) error { made(r); return nil }
	if _, err := s.Read(t.Context(), "/none", 0); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
	left("failed")
	d.end = func(r *lifecycle.Record) error { made(r); r.File = relpath.Path{}; return nil }
	if _, err := s.Read(t.Context(), "/x", 0); fault.KindOf(err) != fault.NotFound {
		t.Error(err)
	}
	left("deleted")
	ctx, cancel := context.WithCancel(t.Context())
	d.end = func(r *lifecycle.Record) error { made(r); cancel(); return errors.New("wait") }
	if _, err := s.Read(ctx, "/x", 0); err == nil {
		t.Error("it has come")
	}
	left("given up")

	d.cancelled, d.records = nil, map[store.Ref]lifecycle.Record{}
	for i, state := range []lifecycle.State{lifecycle.ToSubmit, lifecycle.Done, lifecycle.InError} {
		id := lifecycle.ID{byte(i)}
		target, err := relpath.Parse(fetched + id.String() + "/x")
		if err != nil {
			t.Fatal(err)
		}
		r := lifecycle.Record{Key: lifecycle.Key{Requester: "a", ID: id}, Role: lifecycle.Requester, State: state, Spec: lifecycle.Spec{Rule: "get", Target: target}}
		d.records[store.RefOf(&r)] = r
		made(&r)
	}
	foreign := filepath.Join(d.get, fetched+lifecycle.ID{9}.String())
	if err := os.Mkdir(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	remove, err := n.Leftover(t.Context(), "a", "get")
	if err != nil {
		t.Fatal(err)
	}
	remove()
	if err := os.Remove(foreign); err != nil {
		t.Error("a directory that no request of this node has made:", err)
	}
	left("after a crash")
	if len(d.cancelled) != 3 {
		t.Errorf("cancelled: %v", d.cancelled)
	}

	for _, r := range d.records {
		made(&r)
	}
	var waited atomic.Int32
	d.tooLate, d.end = true, func(r *lifecycle.Record) error { // it is fetched again before it ends
		waited.Add(1)
		if _, err := os.Stat(filepath.Join(d.get, r.Spec.Target.Dir().String())); err != nil {
			t.Errorf("%v: removed before the request has ended", r.Key.ID)
		}
		r.State = lifecycle.InError
		return nil
	}
	if remove, err = n.Leftover(t.Context(), "a", "get"); err != nil {
		t.Fatal(err)
	}
	remove()
	left("too late to cancel")
	if waited.Load() != 3 {
		t.Errorf("the end of %d requests was waited for, of 3 that were too late to cancel", waited.Load())
	}
}

// TestList: of what can be downloaded, else of what was uploaded.
func TestList(t *testing.T) {
	d, n := newDesk(t)
	for _, path := range []string{filepath.Join(d.far, "far"), filepath.Join(d.send, "here"), filepath.Join(d.send, ".x.pannier-r1")} {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		user User
		want string
	}{{User{Get: "get"}, "far"}, {User{Send: "send"}, "here"}, {User{Send: "send", Get: "get"}, "far"}} {
		var b bytes.Buffer
		for a, err := range d.guest(n, c.user).(plugins.Lister).List(t.Context(), "/") {
			if err != nil {
				t.Error(err)
			}
			b.WriteString(a.Name)
		}
		if b.String() != c.want {
			t.Errorf("%+v sees %q", c.user, b.String())
		}
	}
}

// TestContract: a guest's session is one of a driver.
func TestContract(t *testing.T) {
	d, n := newDesk(t)
	d.far, d.get = d.send, t.TempDir()
	d.book.Rules["get"].Root, d.book.Rules["send"].Quota = d.get, sideeffect.NoQuota
	hash, err := Hash("secret")
	if err != nil {
		t.Fatal(err)
	}
	n.SetUsers([]User{{Name: "me", Password: secretFile(t, hash, 0o600), Partner: "b", Send: "send", Get: "get", Wait: time.Second}})
	p := host.InProcess(host.Config{Name: "guests"}, n)
	defer p.Close(context.Background())
	plugintest.Run(t, plugintest.Harness{Levels: []string{plugintest.Core, plugintest.Write}, Entries: 300, Sparse: func(name string, size int64) error {
		at := filepath.Join(d.far, name)
		return errors.Join(os.WriteFile(at, nil, 0o644), os.Truncate(at, size))
	}, Open: func(ctx context.Context) (plugins.Session, error) {
		return p.Open(ctx, plugins.Endpoint{URL: "guest://1.2.3.4:5", User: "me", Password: "secret"})
	}})
}
