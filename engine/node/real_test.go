package node_test

import (
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"unicode"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/flow/flowtest/icapserver"
	"github.com/pannier/pannier/flow/flowtest/mailserver"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/relpath"
)

// Whole requests whose tasks talk to the servers that operators run: Debian's c-icap and exim.

// ended is a request at both ends, once both have ended it.
func ended(t *testing.T, a, b *host, ref store.Ref) (requester, requested lifecycle.Record) {
	t.Helper()
	other := ref
	other.Role = lifecycle.Requested
	for _, end := range []struct {
		*host
		store.Ref
		*lifecycle.Record
	}{{a, ref, &requester}, {b, other, &requested}} {
		r, err := end.node.Engine().Wait(t.Context(), end.Ref)
		if err != nil {
			t.Fatalf("%s: %v", end.name, err)
		}
		*end.Record = r
	}
	return requester, requested
}

// TestScanned: c-icap looks at what goes, or has come. A clean file is DONE. One that is blocked is
// INERROR at both ends, each of which says what has been found; one that the sender's has found is
// nowhere else.
func TestScanned(t *testing.T) {
	for _, side := range []string{"sender", "receiver"} {
		t.Run(side, func(t *testing.T) {
			scanner := icapserver.Start(t)
			list := map[string]string{"sender": "pre", "receiver": "post"}[side]
			a, b := newHost(t, "a"), newHost(t, "b")
			at := map[string]*host{"sender": a, "receiver": b}[side]
			rules := map[*host]string{at: fmt.Sprintf("[rule.%s]\n%s = [ { task = \"icap\", url = %q } ]\nerror = [ { task = \"move\", to = \"quarantine-{name}\" } ]", side, list, scanner+icapserver.Filter)}
			a.start(a.config(b.partner() + a.lists("send", rules[a])))
			b.start(b.config(a.partner() + b.lists("send", rules[b])))
			large := strings.Repeat("nothing to be found here. ", 1<<15)
			a.write("clean", large)
			a.write("bad", large+icapserver.Forbidden+large)

			ref := a.submit("b", "work", "clean", "clean-there")
			if here, there := ended(t, a, b, ref); here.State != lifecycle.Done || there.State != lifecycle.Done {
				t.Errorf("clean: %v, %+v, and %v, %+v", here.State, here.Failure, there.State, there.Failure)
			}
			if b.read("clean-there") != large {
				t.Error("another file has arrived")
			}

			bad, there := ended(t, a, b, a.submit("b", "work", "bad", "bad-there"))
			for _, r := range []lifecycle.Record{bad, there} {
				if r.State != lifecycle.InError || r.Failure.Kind != fault.Refused || r.Attempt != 1 {
					t.Errorf("%v: %v after %d attempts, %+v", r.Role, r.State, r.Attempt, r.Failure)
				}
			}
			own := map[*host]lifecycle.Record{a: bad, b: there}[at]
			if own.Failure.Side != fault.Here || !strings.Contains(own.Failure.Cause, "403 Forbidden") {
				t.Errorf("who has asked the scanner says %+v", own.Failure)
			}
			eventually(t, func() bool { return at.has("quarantine-bad") || at.has("quarantine-bad-there") }, func() string { return "it is in no quarantine" })
			if b.has("bad-there") {
				t.Error("it is where clean files are")
			}
		})
	}
}

// mailText is what a mail is to say: lines that SMTP or a mailbox takes for its own, a long one, and none
// of ASCII.
const mailText = ".\n..two dots\nFrom here on\n{path} — Größe {size}, 価格 100 €, from {partner} by {rule}\n" +
	"a line of more than the 998 octets that SMTP has: {info}\n.\nQUIT\n{error.code}: {error.text}\n"

// mails is a mail task of a rule.
func mails(s *mailserver.Server, url, secret, more string) string {
	return fmt.Sprintf(`{ task = "mail", url = %q, ca = "file:%s", user = %q, secret = "file:%s", from = "Spedition Müller <pannier@example.org>", %s }`, url, s.CA, mailserver.User, secret, more)
}

// TestMailed: exim takes the mails of a whole request, by STARTTLS and by TLS from the first byte, and what lies
// in the mailboxes is what the rule has said: names that are not ASCII, lines that begin with a dot, long ones.
func TestMailed(t *testing.T) {
	office := mailserver.Start(t)
	a, b := newHost(t, "a"), newHost(t, "b")
	secret := a.secret("password", mailserver.Password+"\n")
	to := fmt.Sprintf("to = \"Zoë at night <%s>, %s\", required = true, text = %q", mailserver.Night, mailserver.Ops, mailText)
	sends := fmt.Sprintf("[rule.sender]\npre = [ %s ]\npost = [ %s ]\n", mails(office, office.Plain, secret, to+`, subject = "leaves: {name}"`), mails(office, office.Secure, secret, to+`, subject = "gone: {name}"`))
	a.start(a.config(b.partner() + a.lists("send", sends)))
	b.start(b.config(a.partner() + b.lists("send", "")))
	const name = "Rechnung März №7 \"価格\".csv"
	a.write(name, "content")
	info := strings.Repeat("long ", 400)
	path := must(relpath.Parse(name))
	a.done(a.ordered(engine.Order{Partner: "b", Rule: "work", Source: path, Target: path, Info: info}))
	want := strings.NewReplacer("{path}", name, "{size}", "7", "{partner}", "b", "{rule}", "work", "{info}", info, "{error.code}: {error.text}", ": ").Replace(mailText)
	for _, box := range []string{mailserver.Ops, mailserver.Night} {
		got := office.Mail(box, 2)
		subjects := map[string]bool{}
		for _, m := range got {
			var d mime.WordDecoder
			subject, err := d.DecodeHeader(m.Header.Get("Subject"))
			if err != nil {
				t.Error(err)
			}
			subjects[subject] = true
			for key, values := range m.Header { // as servers without SMTPUTF8 pass on, too
				if strings.IndexFunc(strings.Join(values, ""), func(r rune) bool { return r > unicode.MaxASCII }) >= 0 {
					t.Errorf("%s is not ASCII: %q", key, values)
				}
			}
			from, err1 := m.Header.AddressList("From")
			all, err2 := m.Header.AddressList("To")
			if err1 != nil || err2 != nil || len(from) != 1 || len(all) != 2 || *from[0] != (mail.Address{Name: "Spedition Müller", Address: "pannier@example.org"}) ||
				*all[0] != (mail.Address{Name: "Zoë at night", Address: mailserver.Night}) || *all[1] != (mail.Address{Address: mailserver.Ops}) {
				t.Errorf("from %v, to %v, %v, %v", from, all, err1, err2)
			}
			if at, err := m.Header.Date(); err != nil || at.IsZero() {
				t.Errorf("date %v, %v", at, err)
			}
			for key, want := range map[string]string{"Return-Path": "<pannier@example.org>", "Envelope-To": box, "Auto-Submitted": "auto-generated", "Mime-Version": "1.0", "Bcc": ""} {
				if got := m.Header.Get(key); got != want {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type")); err != nil || kind != "text/plain" || !strings.EqualFold(params["charset"], "utf-8") || m.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
				t.Errorf("it is %q in %q, %v", m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), err)
			}
			body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
			if got := strings.TrimRight(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n"); err != nil || got != strings.TrimRight(want, "\n") {
				t.Errorf("%v: it says\n%s\nand not\n%s", err, got, want)
			}
		}
		if len(got) != 2 || !subjects["leaves: "+name] || !subjects["gone: "+name] {
			t.Errorf("%s has %v", box, subjects)
		}
	}
	if log := office.Log(); strings.Count(log, " A=plain:"+mailserver.User) != 2 || strings.Count(log, " X=TLS1.3") != 2 {
		t.Errorf("not each was sent over TLS by who has logged in:\n%s", log)
	}
}

// TestMailRefused: what exim refuses fails a request whose rule wants the mail, in the server's words, and is a
// warning of one whose rule does not; the password is in neither. What it puts off is tried again.
func TestMailRefused(t *testing.T) {
	office := mailserver.Start(t)
	a, b := newHost(t, "a"), newHost(t, "b")
	right, wrong := a.secret("right", mailserver.Password), a.secret("wrong", "another canary")
	b.start(b.config(a.partner() + b.lists("send", "")))
	a.write("x", "content")
	for _, c := range []struct {
		secret, more, code, says, logs string
		tries                          int
	}{
		{right, `to = "nobody@example.org", attempts = 5`, "550", "no such mailbox here", "rejected RCPT", 1},
		{wrong, `to = "ops@example.org", attempts = 5`, "535", "Incorrect authentication data", "535 Incorrect", 1},
		{right, `to = "ops@example.org", attempts = 2, subject = "` + mailserver.NotNow + `"`, "451", "come again later", "temporarily rejected", 2},
	} {
		for _, required := range []bool{true, false} {
			task := mails(office, office.Plain, c.secret, c.more+fmt.Sprintf(", required = %v", required))
			if err := a.end(); err != nil {
				t.Fatal(err)
			}
			a.start(a.config(b.partner() + a.lists("send", "retry = { attempts = 1, delay = \"1s\" }\n[rule.sender]\npost = [ "+task+" ]")))
			tried, logged := strings.Count(office.Log(), c.logs), len(a.log.String())
			r, err := a.node.Engine().Wait(t.Context(), a.submit("b", "work", "x", fmt.Sprint("x-", c.code, required)))
			if err != nil {
				t.Fatal(err)
			}
			said := r.Failure.Cause
			if want := map[bool]lifecycle.State{true: lifecycle.InError, false: lifecycle.Done}[required]; r.State != want {
				t.Errorf("%s: %v, want %v: %+v", c.code, r.State, want, r.Failure)
			}
			if log := a.log.String()[logged:]; !required {
				for line := range strings.Lines(log) {
					if strings.Contains(line, "warning=true") {
						said += line
					}
				}
			}
			if !strings.Contains(said, c.code) || !strings.Contains(said, c.says) {
				t.Errorf("%s, required %v: it says %q", c.code, required, said)
			}
			want := c.tries
			if required && c.code == "451" { // the rule tries again, too
				want *= 2
			}
			if n := strings.Count(office.Log(), c.logs) - tried; n != want {
				t.Errorf("%s, required %v: it was sent %d times, want %d", c.code, required, n, want)
			}
		}
	}
	for _, secret := range []string{"canary", mailserver.Password} {
		if strings.Contains(a.log.String()+b.log.String(), secret) {
			t.Errorf("%q is in a log", secret)
		}
	}
}
