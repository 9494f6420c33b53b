package notify

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net"
	"net/mail"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	gomail "github.com/wneessen/go-mail"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// mailTask tells of a request by mail.
type mailTask struct {
	common
	host, user    string
	port          int
	implicit      bool // TLS from the first byte; else STARTTLS, which the server has to have
	from          string
	to            []string
	subject, text task.Template
}

const mailText = `{rule}: {path}

request   {id}
node      {node}
partner   {partner}
side      {side}
size      {size}
error     {error.code} {error.text}
`

func newMail(t *task.Table, d *doubts) (task.Task, error) {
	c, err := newCommon(t, d)
	if err != nil {
		return nil, err
	}
	m := mailTask{common: c, user: t.User}
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, invalid("url is the mail server, without user and password, as \"smtp://mail.example:587\", or smtps:// for TLS from the first byte")
	}
	m.host, m.implicit = u.Hostname(), u.Scheme == "smtps"
	m.server = u.Host
	port := "587"
	if m.implicit {
		port = "465"
	}
	if m.port, err = strconv.Atoi(cmp.Or(u.Port(), port)); err != nil || m.port < 1 || m.port > 65535 {
		return nil, invalid("url has no port that there is")
	}
	if (m.user == "") != (m.secret == "") {
		return nil, invalid("user and secret, the file of the password, go together")
	}
	from, err := mail.ParseAddress(t.From)
	if err != nil {
		return nil, invalid("from is %q: write the sender's address, as \"pannier@example.org\"", t.From)
	}
	m.from = from.String()
	all, err := mail.ParseAddressList(t.To)
	if err != nil {
		return nil, invalid("to is %q: write addresses, as \"ops@example.org, night@example.org\"", t.To)
	}
	for _, a := range all {
		m.to = append(m.to, a.String())
	}
	if m.subject, err = task.ParseTemplate(cmp.Or(t.Subject, "pannier: {rule}: {name} {error.code}")); err == nil {
		m.text, err = task.ParseTemplate(cmp.Or(t.Text, mailText))
	}
	return m, err
}

// Run implements task.Task. A second run sends a second mail, with the same Message-ID.
func (m mailTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	cfg, err := m.tls(m.host)
	if err != nil {
		return m.unusable(err)
	}
	o := []gomail.Option{gomail.WithPort(m.port), gomail.WithTLSConfig(cfg), gomail.WithTimeout(each), gomail.WithHELO("pannier")}
	policy := gomail.TLSMandatory
	if m.implicit { // dial has made it
		policy = gomail.TLSOpportunistic
	}
	o = append(o, gomail.WithTLSPolicy(policy))
	if m.secret != "" {
		password, err := task.ReadSecret(m.secret)
		if err != nil {
			return m.unusable(err)
		}
		o = append(o, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(m.user), gomail.WithPassword(string(bytes.TrimRight(password, "\r\n"))))
	}
	return m.try(ctx, func(ctx context.Context) error {
		// The connection ends with the attempt, however silent the server is.
		dialer := func(_ context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, network, address, m.implicit, cfg)
		}
		client, err := gomail.NewClient(m.host, append(slices.Clone(o), gomail.WithDialContextFunc(dialer))...)
		if err != nil {
			return permanent{fault.Wrap("send mail", m.host, err)}
		}
		msg, err := m.message(on)
		if err != nil {
			return permanent{err}
		}
		err = client.DialAndSendWithContext(ctx, msg)
		// What the server itself has said, of the mail, or before it of who logs in; a connection that is lost has said nothing.
		var sent *gomail.SendError
		var said *textproto.Error
		if errors.As(err, &sent) && sent.ErrorCode() >= 500 || errors.As(err, &said) && said.Code >= 500 {
			return permanent{fault.New("send mail", fault.Refused, "%s: %w", m.host, err)}
		}
		return unreached("send mail", m.host, err)
	})
}

func (m mailTask) message(on *task.On) (*gomail.Msg, error) {
	msg := gomail.NewMsg()
	if err := errors.Join(msg.From(m.from), msg.To(m.to...)); err != nil {
		return nil, err
	}
	msg.Subject(oneLine(m.subject.Fill(on.Vars)))
	msg.SetMessageIDWithValue(idOf(on.Key) + "@pannier")
	msg.SetDate()
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, m.text.Fill(on.Vars))
	return msg, nil
}

// oneLine is a text as a header can have it.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.ToValidUTF8(strings.TrimSpace(s[:min(len(s), 400)]), "")
}
