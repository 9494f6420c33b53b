package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// httpTask tells of a request by HTTP: JSON in a POST, signed as Standard Webhooks has it.
type httpTask struct {
	common
	host string
	text task.Template
}

func newHTTP(t *task.Table, d *doubts) (task.Task, error) {
	c, err := newCommon(t, d)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return nil, invalid("url is where to send to, without user and password, as \"https://hooks.example/pannier\"")
	}
	c.server = u.Host
	text, err := task.ParseTemplate(t.Text)
	return httpTask{c, u.Hostname(), text}, err
}

// message is the body.
type message struct {
	Type string    `json:"type"` // "request.post", by the list the task is in
	Time string    `json:"timestamp"`
	Text string    `json:"text,omitempty"`
	Data task.Told `json:"data"`
}

// Run implements task.Task. Each attempt, and a second run, has the same id: who receives
// it knows it again.
func (h httpTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	now := time.Now()
	body, err := json.Marshal(message{Type: "request." + on.Key.List.String(), Time: now.UTC().Format(time.RFC3339), Text: h.text.Fill(on.Vars), Data: task.Tell(on)})
	if err != nil {
		return task.Result{}, err
	}
	secret, err := h.key()
	if err != nil {
		return h.unusable(err)
	}
	cfg, err := h.tls(h.host)
	if err != nil {
		return h.unusable(err)
	}
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	id := idOf(on.Key)
	return h.try(ctx, func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
		if err != nil {
			return permanent{err}
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("User-Agent", "pannier")
		sign(r.Header, secret, id, time.Now(), body)
		answer, err := client.Do(r)
		if err != nil {
			return unreached("notify", h.host, fault.WithoutAddress(err))
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
		answer.Body.Close()
		return said(answer.StatusCode, h.host)
	})
}

// unusable is how it ends when a file of this host is not as it should be.
func (c common) unusable(err error) (task.Result, error) {
	if c.required {
		return task.Result{}, err
	}
	return warning(err.Error()), nil
}

// key is the secret that both ends know; nil: nothing is signed.
func (h httpTask) key() ([]byte, error) {
	if h.secret == "" {
		return nil, nil
	}
	text, err := task.ReadSecret(h.secret)
	if err != nil {
		return nil, err
	}
	coded, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "whsec_")
	key, err := base64.StdEncoding.DecodeString(coded)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, &fault.Error{Op: "read secret", Kind: fault.Invalid, Subject: h.secret, Err: errors.New("it has no secret"), Advice: "write whsec_ and 24 to 64 random bytes in base64"}
	}
	return key, nil
}

// idOf names a message, with what tells equal ids of several requesters apart.
func idOf(k lifecycle.TaskKey) string {
	sum := sha256.Sum256([]byte(k.Key.Requester))
	return "msg_" + k.String() + "-" + hex.EncodeToString(sum[:4])
}

// sign puts the headers of Standard Webhooks.
func sign(h http.Header, secret []byte, id string, at time.Time, body []byte) {
	stamp := strconv.FormatInt(at.Unix(), 10)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	if secret == nil {
		return
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// said is what a status means.
func said(status int, host string) error {
	err := fault.New("notify", fault.Refused, "%s answered %d %s", host, status, http.StatusText(status))
	switch {
	case status/100 == 2:
		return nil
	case status/100 == 5, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return err
	}
	return permanent{err}
}
