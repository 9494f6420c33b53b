package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pannier/pannier/spec/fault"
)

// What the node of canaryservices.go talks to: they refuse most of what they are told.

// others are the services around a node: one for webhooks, records and traces, and one for mail.
type others struct {
	base      string // of the first
	authority string // in PEM, of the second
	mail      net.Listener
	web       *http.Server

	mu     sync.Mutex
	heard  bytes.Buffer   // what they were told, without what proves who tells it
	counts map[string]int // calls, by the first element of the path; "mail": who may not log in
}

func newOthers() (*others, error) {
	const op = "start services"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fault.Wrap(op, "", err)
	}
	o := &others{base: "http://" + l.Addr().String(), counts: map[string]int{}}
	proof, err := certificate(time.Now().Add(time.Hour), net.IPv4(127, 0, 0, 1))
	if err == nil {
		o.mail, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{proof}})
	}
	if err != nil {
		l.Close()
		return nil, fault.Wrap(op, "", err)
	}
	o.authority = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proof.Certificate[0]}))
	o.web = &http.Server{Handler: o}
	go func() { _ = o.web.Serve(l) }() // until close
	go func() {
		for {
			c, err := o.mail.Accept()
			if err != nil {
				return
			}
			go o.postman(c)
		}
	}()
	return o, nil
}

func (o *others) close() {
	_, _ = o.web.Close(), o.mail.Close()
}

// missing is who has not been asked, or often enough to have refused it.
func (o *others) missing() (all []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for what, want := range map[string]int{"ok": 1, "no": 2, "push": 3, "traces": 2, "mail": 1} {
		if o.counts[what] < want {
			all = append(all, what)
		}
	}
	return all
}

// ServeHTTP refuses most of what it is told, with what proves who tells it in its words.
func (o *others) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	what := strings.Split(r.URL.Path, "/")[1]
	if strings.HasSuffix(r.URL.Path, "/v1/traces") {
		what = "traces"
	}
	words := r.URL.RequestURI() + " " + r.Header.Get("Authorization")
	r.Header.Del("Authorization")
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[what]++
	n := o.counts[what]
	fmt.Fprintf(&o.heard, "%v %s\n", r.Header, body)
	switch {
	case what == "ok", what == "push" && n == 2, what == "traces" && n == 1:
		w.WriteHeader(http.StatusOK)
		return
	}
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	if what == "push" && n == 1 { // it is gone
		return
	}
	status := 401
	if what == "no" {
		status = 500
	}
	fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n\r\n%[2]s", status, words, len(words))
}

// postman is a mail server that lets nobody in.
func (o *others) postman(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") } // who has gone is heard of by the next line
	say("220 mail.example")
	for lines := bufio.NewScanner(c); lines.Scan(); {
		switch word, _, _ := strings.Cut(lines.Text(), " "); strings.ToUpper(word) {
		case "EHLO":
			say("250-mail.example\r\n250 AUTH PLAIN")
		case "AUTH":
			o.mu.Lock()
			o.counts["mail"]++
			o.mu.Unlock()
			say("535 5.7.8 who are you")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}
