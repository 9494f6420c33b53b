package crypt

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/tasktest"
	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys are files of a new pair: recipients, identities.
func keys(t testing.TB) (recipients, identities string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	recipients, identities = filepath.Join(dir, "recipients"), filepath.Join(dir, "identities")
	if err := os.WriteFile(recipients, []byte("# ours\n"+id.Recipient().String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(identities, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return recipients, identities
}

func run(t testing.TB, o *task.On, table task.Table) error {
	t.Helper()
	res, err := tasktest.Step(t, Tasks(), table).Run(t.Context(), o)
	if err == nil && res.Moved {
		o.File = res.File
	}
	tasktest.Clean(t, o)
	return err
}

// TestAge: there and back, and a second run as after a crash.
func TestAge(t *testing.T) {
	recipients, identities := keys(t)
	text := strings.Repeat("content ", 100_000)
	o := tasktest.On(t, "in/a.dat", text)
	for _, table := range []task.Table{
		{Task: "encrypt", Recipients: "file:" + recipients, Remove: true}, {Task: "decrypt", Identities: "file:" + identities, Remove: true},
	} {
		before := o.File
		if err := run(t, o, table); err != nil {
			t.Fatal(err)
		}
		after := o.File
		o.File, o.Again = before, true // the crash came before the end was recorded
		if err := run(t, o, table); err != nil || o.File != after {
			t.Fatalf("again: %v, %v", o.File, err)
		}
		if table.Task == "encrypt" && (o.File.String() != "in/a.dat.age" || strings.Contains(tasktest.Content(t, o, "in/a.dat.age"), "content") || tasktest.Content(t, o, "in/a.dat") != "no file") {
			t.Errorf("%v is not encrypted", o.File)
		}
	}
	if o.File.String() != "in/a.dat" || tasktest.Content(t, o, "in/a.dat") != text {
		t.Errorf("%v is not what it was", o.File)
	}
}

// TestAgeProgram: what the tasks encrypt the program age decrypts, and the other way round, with keys that it has made.
func TestAgeProgram(t *testing.T) {
	if _, err := exec.LookPath("age"); err != nil {
		t.Skip("no age: install the package age")
	}
	dir := t.TempDir()
	does := func(stdin, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v", name, args, err)
		}
		return string(out)
	}
	identities, recipients := filepath.Join(dir, "identities"), filepath.Join(dir, "recipients")
	does("", "age-keygen", "-o", identities)
	public := does("", "age-keygen", "-y", identities)
	if err := os.WriteFile(recipients, []byte(public), 0o644); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("content ", 100_000)
	o := tasktest.On(t, "a", text)
	if err := run(t, o, task.Table{Task: "encrypt", Recipients: "file:" + recipients}); err != nil {
		t.Fatal(err)
	}
	if does(tasktest.Content(t, o, "a.age"), "age", "--decrypt", "-i", identities) != text {
		t.Error("age makes something else of it")
	}
	for _, armour := range [][]string{{}, {"--armor"}} {
		if err := o.Root.WriteFile("b.age", []byte(does(text, "age", append(armour, "-r", strings.TrimSpace(public))...)), 0o666); err != nil {
			t.Fatal(err)
		}
		o.File = tasktest.Name(t, "b.age")
		if err := run(t, o, task.Table{Task: "decrypt", Identities: "file:" + identities}); err != nil || tasktest.Content(t, o, "b") != text {
			t.Errorf("%v: %v", armour, err)
		}
	}
}

// TestAgeRefuses: of a file that is cut, damaged or for others nothing is made; keys are
// not in errors.
func TestAgeRefuses(t *testing.T) {
	recipients, identities := keys(t)
	_, others := keys(t)
	o := tasktest.On(t, "a", strings.Repeat("content ", 50_000))
	if err := run(t, o, task.Table{Task: "encrypt", Recipients: "file:" + recipients}); err != nil {
		t.Fatal(err)
	}
	whole := tasktest.Content(t, o, "a.age")
	var b strings.Builder
	w := armor.NewWriter(&b)
	if _, err := io.WriteString(w, whole); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for what, c := range map[string]struct {
		content, identities string
		kind                fault.Kind
	}{
		"for others":       {whole, others, fault.Permission},
		"cut":              {whole[:len(whole)-20], identities, fault.Refused},
		"cut at a part":    {whole[:len(whole)-(len(whole)-200)%(64<<10+16)], identities, fault.Refused},
		"a bit, late":      {whole[:len(whole)-5] + string(whole[len(whole)-5]^1) + whole[len(whole)-4:], identities, fault.Refused},
		"longer":           {whole + "x", identities, fault.Refused},
		"text, for others": {text, others, fault.Permission},
		"text, cut":        {text[:len(text)/2], identities, fault.Refused},
		"text, no end":     {text[:len(text)-10], identities, fault.Refused},
		"text, longer":     {text + "x", identities, fault.Refused},
		"text, twice":      {text + text, identities, fault.Refused},
		"plain":            {"plain", identities, fault.Refused},
		"empty":            {"", identities, fault.Refused},
		"no keys at all":   {whole, filepath.Join(t.TempDir(), "none"), fault.NotFound},
		"public keys":      {whole, recipients, fault.Permission}, // others can read the file
	} {
		if err := o.Root.WriteFile("b.age", []byte(c.content), 0o666); err != nil {
			t.Fatal(err)
		}
		o.File = tasktest.Name(t, "b.age")
		if err := run(t, o, task.Table{Task: "decrypt", Identities: "file:" + c.identities, Remove: true}); fault.KindOf(err) != c.kind || err == nil {
			t.Errorf("%s: %v", what, err)
		}
		if tasktest.Content(t, o, "b") != "no file" || tasktest.Content(t, o, "b.age") != c.content {
			t.Errorf("%s: something was made, or the source is gone", what)
		}
	}
	secret := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(secret, []byte("AGE-SECRET-KEY-1CANARY\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, table := range []task.Table{{Task: "decrypt", Identities: "file:" + secret}, {Task: "encrypt", Recipients: "file:" + secret}} {
		if err := run(t, o, table); fault.KindOf(err) != fault.Invalid || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v", table.Task, err)
		}
	}
	tasktest.Refused(t, Tasks(), map[string]task.Table{
		"set recipients": {Task: "encrypt"}, "set identities": {Task: "decrypt"},
		"file:/etc/pannier/identities": {Task: "decrypt", Identities: "AGE-SECRET-KEY-1XYZ"},
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.File = tasktest.Name(t, "a")
	if _, err := tasktest.Step(t, Tasks(), task.Table{Task: "encrypt", To: "c", Recipients: "file:" + recipients}).Run(ctx, o); fault.KindOf(err) != fault.Canceled {
		t.Errorf("told to end: %v", err)
	}
	tasktest.Clean(t, o)
}

func identity(t testing.TB) *carrier.Identity {
	t.Helper()
	id, err := carrier.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// receiptOf runs the task and returns the receipt and who has signed it.
func receiptOf(t testing.TB) ([]byte, *carrier.Identity) {
	t.Helper()
	o := tasktest.On(t, "in/a.dat", "content")
	id := identity(t)
	o.Signer, o.PartnerKeys = id, []string{"sha256:" + strings.Repeat("ab", 32)}
	o.Record.Spec.Info = "<5 & \"6\"> \u2028é\n"
	for range 2 {
		if err := run(t, o, task.Table{Task: "receipt", To: "receipts/{name}"}); err != nil {
			t.Fatal(err)
		}
	}
	if o.File.String() != "in/a.dat" {
		t.Errorf("the file is %v", o.File)
	}
	return []byte(tasktest.Content(t, o, "receipts/a.dat")), id
}

// TestReceipt: it says what was delivered, and is signed by the receiver.
func TestReceipt(t *testing.T) {
	text, id := receiptOf(t)
	s, key, err := Verify(text, id.Key())
	if err != nil || key != id.Key() {
		t.Fatalf("%s, %v", key, err)
	}
	if s.File != (File{Name: "in/a.dat", Size: 7, Digest: "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"}) || s.Sender.Name != "hosta" || len(s.Sender.Keys) != 1 ||
		s.Receiver.Name != "hostb" || s.Source != "out/sent" || s.Size != 7 || s.Verified != "blocks+root" || s.Info != "<5 & \"6\"> \u2028é\n" || s.Registered != "2026-01-31T15:04:05Z" {
		t.Errorf("%+v", s)
	}
	if _, _, err := Verify(text); err != nil {
		t.Errorf("without a key: %v", err)
	}
	if _, _, err := Verify(text, identity(t).Key()); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("another key: %v", err)
	}
}

// TestReceiptChanged: no byte of a receipt can be changed, added or taken away.
func TestReceiptChanged(t *testing.T) {
	text, id := receiptOf(t)
	refused := func(what string, changed []byte) {
		t.Helper()
		if _, _, err := Verify(changed, id.Key()); err == nil || fault.KindOf(err) == fault.Internal {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range text {
		for _, bit := range []byte{1, 0x20, 0x80} {
			changed := bytes.Clone(text)
			changed[i] ^= bit
			refused("a bit", changed)
		}
		refused("one less", append(bytes.Clone(text[:i]), text[i+1:]...))
		for _, c := range " \n,0" {
			refused("one more", append(append(bytes.Clone(text[:i]), byte(c)), text[i:]...))
		}
	}
	refused("twice", append(bytes.Clone(text), text...))
	refused("empty", nil)
	refused("null", []byte("null\n"))
	refused("a key of the object that is nowhere", bytes.Replace(text, []byte(`{"id"`), []byte(`{"x":1,"id"`), 1))
	refused("a key twice", bytes.Replace(text, []byte(`{"id"`), []byte(`{"id":"","id"`), 1))
	refused("capitals", bytes.Replace(text, []byte(`"info"`), []byte(`"INFO"`), 1))
}

// TestReceiptForged: who signs with a key that is not the one of the receiver that the
// receipt names is found, and so is a signature of the node over another text.
func TestReceiptForged(t *testing.T) {
	mine, other := identity(t), identity(t)
	s := Statement{Receiver: Party{Name: "hostb", Keys: []string{mine.Key()}}}
	forged, err := Sign(s, other)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(forged); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("signed by another: %v", err)
	}
	if text, err := Sign(s, undomained{mine}); err != nil {
		t.Fatal(err)
	} else if _, _, err := Verify(text, mine.Key()); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a signature without the words before: %v", err)
	}
}

// undomained signs without the words that only receipts begin with.
type undomained struct{ task.Signer }

func (u undomained) Sign(text []byte) (public, signature []byte, err error) {
	return u.Signer.Sign(bytes.TrimPrefix(text, []byte(domain)))
}

// TestReceiptRefuses: a receipt is the receiver's, of a file that has its name.
func TestReceiptRefuses(t *testing.T) {
	for what, change := range map[string]func(*task.On){
		"a sender":         func(o *task.On) { o.Record.Side = lifecycle.Sender },
		"before the bytes": func(o *task.On) { o.Record.Phase = lifecycle.Pre },
		"a failed request": func(o *task.On) { o.Record.Failing = true },
		"no key":           func(o *task.On) { o.Signer = nil },
		"no file":          func(o *task.On) { o.File = relpath.Path{} },
		"a missing file":   func(o *task.On) { o.File = tasktest.Name(t, "missing") },
	} {
		o := tasktest.On(t, "a", "content")
		o.Signer = identity(t)
		change(o)
		if err := run(t, o, task.Table{Task: "receipt", To: "r"}); err == nil || tasktest.Content(t, o, "r") != "no file" {
			t.Errorf("%s: %v", what, err)
		}
	}
	o := tasktest.On(t, "a", "content")
	o.Signer = identity(t)
	for _, to := range []string{"a", "{error.text}/r"} {
		if err := run(t, o, task.Table{Task: "receipt", To: to}); fault.KindOf(err) != fault.Invalid || tasktest.Content(t, o, "a") != "content" {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// TestReceiptOfWhatWasMoved: where no task may have changed the file, a receipt is of the content
// that was verified, and of no other.
func TestReceiptOfWhatWasMoved(t *testing.T) {
	for content, want := range map[string]fault.Kind{"content": 0, "c0ntent": fault.Corrupt, "conten": fault.Corrupt, "content2": fault.Corrupt, "": fault.Corrupt} {
		o := tasktest.On(t, "a", content)
		o.Signer, o.Moved = identity(t), true
		root, err := sideeffect.RootOf(t.Context(), strings.NewReader("content"), 7, 4, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.Record.Size, o.Record.Proof = 7, sideeffect.Whole{BlockSize: 4, Root: root}.String()
		switch err := run(t, o, task.Table{Task: "receipt", To: "r"}); {
		case err == nil && want != 0 || err != nil && fault.KindOf(err) != want:
			t.Errorf("%q: %v", content, err)
		case want == 0:
			if s, _, err := Verify([]byte(tasktest.Content(t, o, "r")), o.Signer.Key()); err != nil || s.File.Size != 7 || s.File.Digest != "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73" {
				t.Errorf("%+v, %v", s, err)
			}
		case tasktest.Content(t, o, "r") != "no file":
			t.Errorf("%q: there is a receipt", content)
		}
	}
}

func FuzzVerify(f *testing.F) {
	text, _ := receiptOf(f)
	f.Add(text)
	f.Fuzz(func(t *testing.T, changed []byte) {
		if _, _, err := Verify(changed); err == nil && !bytes.Equal(changed, text) {
			t.Errorf("%q is a receipt", changed)
		} else if err != nil && fault.KindOf(err) == fault.Internal {
			t.Error(err)
		}
	})
}
