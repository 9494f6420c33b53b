package notify

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/tasktest"
	"github.com/pannier/pannier/flow/flowtest/testcert"
)

func contextWith(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// postOffice is a server of SMTP as far as a client that logs in and sends needs it: EHLO,
// STARTTLS, AUTH PLAIN, MAIL, RCPT, DATA, and whatever goes wrong.
type postOffice struct {
	t        *testing.T
	l        net.Listener
	tls      *tls.Config
	ca       string // file
	implicit bool
	answers  map[string]string // by command, instead of the usual one; "hang": none
	noTLS    bool              // STARTTLS is not offered
	lost     int               // so many mails are taken and not answered: the connection is lost

	mu   sync.Mutex
	got  []string // commands
	mail []string
	over sync.WaitGroup
}

func newPostOffice(t *testing.T, change func(*postOffice)) *postOffice {
	t.Helper()
	cert := testcert.New(t, t.TempDir(), "localhost")
	p := &postOffice{t: t, tls: cert.Server, ca: cert.File, answers: map[string]string{}}
	if change != nil {
		change(p)
	}
	var err error
	if p.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if p.implicit {
		p.l = tls.NewListener(p.l, p.tls)
	}
	p.over.Go(func() {
		for {
			c, err := p.l.Accept()
			if err != nil {
				return
			}
			p.over.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { p.l.Close(); p.over.Wait() })
	return p
}

// serve is one client.
func (p *postOffice) serve(c net.Conn) {
	defer func() { c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	say := func(text string) { _, _ = io.WriteString(c, text+"\r\n") }
	say("220 office")
	secure := p.implicit
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		verb = strings.ToUpper(verb)
		p.mu.Lock()
		p.got = append(p.got, line)
		p.mu.Unlock()
		if other := p.answers[verb]; other != "" {
			if other == "hang" {
				_, _ = io.Copy(io.Discard, r) // until the client goes
				return
			}
			say(other)
			continue
		}
		switch verb {
		case "EHLO":
			switch {
			case secure:
				say("250-office\r\n250-AUTH PLAIN\r\n250 8BITMIME")
			case p.noTLS:
				say("250 office")
			default:
				say("250-office\r\n250 STARTTLS")
			}
		case "STARTTLS":
			say("220 go")
			s := tls.Server(c, p.tls)
			if err := s.Handshake(); err != nil {
				return
			}
			c, r, secure = s, bufio.NewReader(s), true
		case "AUTH":
			_, coded, _ := strings.Cut(rest, " ")
			if b, err := base64.StdEncoding.DecodeString(coded); err != nil || string(b) != "\x00me\x00pass word" || !secure {
				say("535 no")
				continue
			}
			say("235 welcome")
		case "MAIL", "RCPT", "NOOP", "RSET":
			say("250 fine")
		case "DATA":
			say("354 go on")
			var b strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				b.WriteString(strings.TrimPrefix(line, "."))
			}
			p.mu.Lock()
			p.mail = append(p.mail, b.String())
			lost := len(p.mail) <= p.lost
			p.mu.Unlock()
			if lost {
				return
			}
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("500 what")
		}
	}
}

// table is a task that sends by the office.
func (p *postOffice) table() task.Table {
	scheme := "smtp"
	if p.implicit {
		scheme = "smtps"
	}
	_, port, _ := net.SplitHostPort(p.l.Addr().String())
	return task.Table{
		Task: "mail", URL: fmt.Sprintf("%s://localhost:%s", scheme, port), CA: "file:" + p.ca, From: "Pannier <pannier@example.org>", To: "ops@example.org, Night <night@example.org>",
		User: "me", Secret: "file:" + file(p.t, "pass word\n"), Attempts: 1,
	}
}

// TestMail: by STARTTLS and by TLS from the first byte; what is in a file's name is text.
func TestMail(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		p := newPostOffice(t, func(p *postOffice) { p.implicit = implicit })
		o := tasktest.On(t, "a", "content")
		o.Vars["name"], o.Vars["info"] = "é\r\nBcc: evil@example.org\r\n\r\nx", "one\r\n.\r\nMAIL FROM:<evil@example.org>"
		table := p.table()
		table.Text = "information: {info}\n"
		for range 2 {
			if res, err := tasktest.Step(t, Tasks(), table).Run(t.Context(), o); err != nil || res.Warning != "" {
				t.Fatalf("%s, %v, %q", res.Output, err, p.got)
			}
		}
		if len(p.mail) != 2 {
			t.Fatalf("%q", p.mail)
		}
		var ids []string
		for _, text := range p.mail {
			m, err := mail.ReadMessage(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, m.Header.Get("Message-Id"))
			subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
			if err != nil || !strings.Contains(subject, "invoices: é  Bcc: evil@example.org") || m.Header.Get("Bcc") != "" {
				t.Errorf("%q, %v", m.Header, err)
			}
			if to, err := m.Header.AddressList("To"); err != nil || len(to) != 2 || to[1].Name != "Night" || !strings.Contains(m.Header.Get("From"), "<pannier@example.org>") {
				t.Errorf("%q, %v", m.Header, err)
			}
			if body, err := io.ReadAll(m.Body); err != nil || !strings.Contains(string(body), "information: one\r\n") || !strings.Contains(string(body), "MAIL FROM:<evil@example.org>") {
				t.Errorf("%q, %v", body, err)
			}
		}
		if ids[0] != ids[1] || ids[0] == "" {
			t.Errorf("%q", ids)
		}
		for _, line := range p.got {
			if strings.Contains(line, "evil") {
				t.Errorf("a command: %q", line)
			}
		}
	}
}

// TestMailLost: a mail that the server has taken, and whose answer is lost, is sent again, with the same
// Message-ID; where no attempt is left nobody knows whether it was taken, and it counts as not told.
func TestMailLost(t *testing.T) {
	for _, c := range []struct {
		lost, attempts, mails int
		required, told        bool
	}{
		{lost: 1, attempts: 3, mails: 2, required: true, told: true},
		{lost: 9, attempts: 2, mails: 2, required: true},
		{lost: 9, attempts: 2, mails: 2},
	} {
		p := newPostOffice(t, func(p *postOffice) { p.lost = c.lost })
		table := p.table()
		table.Attempts, table.Required = c.attempts, c.required
		res, err := tasktest.Step(t, Tasks(), table).Run(t.Context(), tasktest.On(t, "a", "content"))
		if told := err == nil && res.Warning == ""; told != c.told || (err != nil) != (c.required && !c.told) {
			t.Errorf("%+v: %+v, %v", c, res, err)
		}
		p.mu.Lock()
		ids := map[string]bool{}
		for _, text := range p.mail {
			m, err := mail.ReadMessage(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			ids[m.Header.Get("Message-Id")] = true
		}
		if len(p.mail) != c.mails || len(ids) != 1 {
			t.Errorf("%+v: %d mails with %d ids", c, len(p.mail), len(ids))
		}
		p.mu.Unlock()
	}
}

// TestMailFails: nothing is sent, and no password, without TLS; what is refused for good is
// not tried again; a server that hangs is left.
func TestMailFails(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*postOffice)
		table  func(*task.Table)
		tries  int
	}{
		"no TLS":             {func(p *postOffice) { p.noTLS = true }, nil, 0},
		"another's name":     {nil, func(m *task.Table) { m.URL = strings.Replace(m.URL, "localhost", "127.0.0.1", 1) }, 0},
		"no known authority": {nil, func(m *task.Table) { m.CA = "" }, 0},
		"a wrong password":   {nil, func(m *task.Table) { m.Secret = "file:" + file(t, "canary") }, 0},
		"refused":            {func(p *postOffice) { p.answers["RCPT"] = "550 no such user" }, nil, 1},
		"refused for now":    {func(p *postOffice) { p.answers["RCPT"] = "450 later" }, nil, 2},
		"hangs":              {func(p *postOffice) { p.answers["MAIL"] = "hang" }, func(m *task.Table) { m.Timeout = task.Duration(time.Second) }, 1},
		"hangs at once":      {func(p *postOffice) { p.answers["EHLO"] = "hang" }, func(m *task.Table) { m.Timeout = task.Duration(time.Second) }, 0},
	} {
		t.Run(what, func(t *testing.T) {
			for _, required := range []bool{false, true} {
				p := newPostOffice(t, c.change)
				table := p.table()
				table.Required, table.Attempts = required, 2
				if c.table != nil {
					c.table(&table)
				}
				res, err := tasktest.Step(t, Tasks(), table).Run(t.Context(), tasktest.On(t, "a", "content"))
				if (err != nil) != required || (res.Warning != "") == required {
					t.Errorf("required %v: %s, %v", required, res.Output, err)
				}
				if text := fmt.Sprint(err, string(res.Output)); strings.Contains(text, "canary") || strings.Contains(text, "pass word") {
					t.Errorf("the password is in %s", text)
				}
				p.mu.Lock()
				got := strings.Join(p.got, "\n")
				if strings.Count(got, "MAIL FROM") != c.tries || what == "a wrong password" && strings.Count(got, "AUTH PLAIN") != 1 || len(p.mail) > 0 || p.noTLS && strings.Contains(got, "AUTH") {
					t.Errorf("%s", got)
				}
				p.mu.Unlock()
			}
		})
	}
}
