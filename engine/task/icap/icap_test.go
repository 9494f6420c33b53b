package icap

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/engine/task/tasktest"
	"github.com/pannier/pannier/flow/flowtest/icapserver"
	"github.com/pannier/pannier/spec/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scan runs the task on a file of that content.
func scan(t testing.TB, url, content string) (task.Result, error) {
	t.Helper()
	o := tasktest.On(t, "in/a file?.dat", content)
	res, err := tasktest.Step(t, Tasks(), task.Table{Task: "icap", URL: url, Timeout: task.Duration(10 * time.Second)}).Run(t.Context(), o)
	if got := tasktest.Content(t, o, "in/a file?.dat"); got != content {
		t.Errorf("the file is %.20q", got)
	}
	return res, err
}

// serve is a server that reads a request, with OPTIONS before, and answers with what it is
// given; "BODY" in that is what it has read, in chunks.
func serve(t *testing.T, options, answer string, before bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var over sync.WaitGroup
	t.Cleanup(func() { l.Close(); over.Wait() })
	over.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			over.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				r := bufio.NewReader(c)
				head(r)
				_, _ = io.WriteString(c, options)
				request := head(r)
				if request == "" {
					return
				}
				if before {
					_, _ = io.WriteString(c, answer)
					_, _ = io.Copy(io.Discard, r)
					return
				}
				_, parts, _ := strings.Cut(request, "-body=")
				n, _ := strconv.Atoi(strings.Split(parts, "\r\n")[0])
				_, _ = io.CopyN(io.Discard, r, int64(n))
				body, _ := io.ReadAll(httputil.NewChunkedReader(r))
				var chunks strings.Builder
				w := httputil.NewChunkedWriter(&chunks)
				_, _ = w.Write(body)
				_ = w.Close()
				_, _ = io.WriteString(c, strings.ReplaceAll(answer, "BODY", chunks.String()+"\r\n"))
			})
		}
	})
	return "icap://" + l.Addr().String() + "/scan"
}

// head reads up to an empty line.
func head(r *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String()
		}
	}
}

const (
	respmod = "ICAP/1.0 200 OK\r\nMethods: RESPMOD\r\nEncapsulated: null-body=0\r\n\r\n"
	reqmod  = "ICAP/1.0 200 OK\r\nMethods: REQMOD\r\nEncapsulated: null-body=0\r\n\r\n"
	ok      = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
	no      = "HTTP/1.1 403 Forbidden\r\n\r\n"
)

// TestClosedAfterOptions: a server that answers OPTIONS with Connection: close, and closes, is asked
// over another connection.
func TestClosedAfterOptions(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var over sync.WaitGroup
	t.Cleanup(func() { l.Close(); over.Wait() })
	over.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			if request := head(r); i%2 == 0 {
				_, _ = io.WriteString(c, "ICAP/1.0 200 OK\r\nMethods: RESPMOD\r\nconnection: Keep-Alive, Close\r\nEncapsulated: null-body=0\r\n\r\n")
			} else if strings.HasPrefix(request, "RESPMOD") {
				_, parts, _ := strings.Cut(request, "-body=")
				n, _ := strconv.Atoi(strings.Split(parts, "\r\n")[0])
				_, _ = io.CopyN(io.Discard, r, int64(n))
				_, _ = io.Copy(io.Discard, httputil.NewChunkedReader(r))
				_, _ = io.WriteString(c, "ICAP/1.0 204 No modifications\r\n\r\n")
			}
			c.Close()
		}
	})
	for range 2 {
		if res, err := scan(t, "icap://"+l.Addr().String()+"/scan", "content"); err != nil || !strings.Contains(string(res.Output), "found nothing") {
			t.Errorf("%q, %v", res.Output, err)
		}
	}
}

// TestVerdicts: what answers of servers mean, good and hostile ones.
func TestVerdicts(t *testing.T) {
	gives := func(httpHead, body string) string {
		return fmt.Sprintf("ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=%d\r\n\r\n%s%s", len(httpHead), httpHead, body)
	}
	for what, c := range map[string]struct {
		options, answer string
		kind            fault.Kind
		says            string
	}{
		"nothing":                 {respmod, "ICAP/1.0 204 No modifications\r\n\r\n", 0, ""},
		"nothing, of a request":   {reqmod, "ICAP/1.0 204 No modifications\r\n\r\n", 0, ""},
		"the same":                {respmod, gives(ok, "BODY"), 0, ""},
		"infected":                {respmod, "ICAP/1.0 200 OK\r\nX-Infection-Found: Type=0; Resolution=2; Threat=Eicar\x80;\r\nEncapsulated: res-hdr=0, null-body=0\r\n\r\n", fault.Refused, "Threat=Eicar"},
		"infected, and left":      {respmod, "ICAP/1.0 204 No modifications\r\nX-Virus-ID: Eicar\r\n\r\n", fault.Refused, "Eicar"},
		"replaced by a page":      {respmod, gives(no, "3\r\nno!\r\n0\r\n\r\n"), fault.Refused, "403 Forbidden"},
		"replaced by other bytes": {respmod, gives(ok, "3\r\nno!\r\n0\r\n\r\n"), fault.Refused, "replaced"},
		"replaced by nothing":     {respmod, gives(ok, "0\r\n\r\n"), fault.Refused, "replaced"},
		"no such service":         {"ICAP/1.0 404 Not found\r\n\r\n", "", fault.NotFound, "404"},
		"it is busy":              {"ICAP/1.0 503 Overloaded\r\n\r\n", "", fault.Lost, "503"},
		"it fails":                {respmod, "ICAP/1.0 500 Error\r\n\r\n", fault.Lost, "500"},
		"it goes":                 {respmod, "", fault.Lost, ""},
		"it goes in the middle":   {respmod, gives(ok, "3\r\nn"), fault.Lost, ""},
		"no methods":              {"ICAP/1.0 200 OK\r\n\r\n", "", fault.Unsupported, "neither"},
		"of another protocol":     {"HTTP/1.1 200 OK\r\n\r\n", "", fault.Protocol, "not ICAP"},
		"garbage":                 {respmod, "\x00\x01\r\n\r\n", fault.Protocol, "not ICAP"},
		"a header without end":    {respmod, "ICAP/1.0 204 OK\r\nX: " + strings.Repeat("x", 1<<20), fault.Protocol, "65536"},
		"many headers":            {respmod, "ICAP/1.0 204 OK\r\n" + strings.Repeat("X: y\r\n", 1<<17), fault.Protocol, "65536"},
		"headers of a gigabyte":   {respmod, "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=1073741824\r\n\r\n", fault.Protocol, "not described"},
		"headers backwards":       {respmod, "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=9, res-body=-4\r\n\r\n", fault.Protocol, "not described"},
		"nothing is described":    {respmod, "ICAP/1.0 200 OK\r\n\r\n", fault.Protocol, "not described"},
	} {
		t.Run(what, func(t *testing.T) {
			res, err := scan(t, serve(t, c.options, c.answer, false), "content")
			if (err == nil) != (c.kind == 0) || err != nil && (fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\x80")) {
				t.Errorf("%s, %v", res.Output, err)
			}
		})
	}
}

// TestEarly: a server may say what it has found before it has all; then the rest is not sent.
func TestEarly(t *testing.T) {
	large := strings.Repeat("content ", 8<<20)
	_, err := scan(t, serve(t, respmod, "ICAP/1.0 200 OK\r\nX-Infection-Found: Threat=Eicar;\r\nEncapsulated: res-hdr=0, null-body=0\r\n\r\n", true), large)
	if fault.KindOf(err) != fault.Refused {
		t.Error(err)
	}
}

// TestSilent: a server that says nothing is left when the time is over, or the node ends.
func TestSilent(t *testing.T) {
	url := serve(t, respmod, "", true)
	o := tasktest.On(t, "a", strings.Repeat("x", 8<<20))
	if _, err := tasktest.Step(t, Tasks(), task.Table{Task: "icap", URL: url, Timeout: task.Duration(200 * time.Millisecond)}).Run(t.Context(), o); fault.KindOf(err) != fault.Deadline {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := tasktest.Step(t, Tasks(), task.Table{Task: "icap", URL: url}).Run(ctx, o); fault.KindOf(err) != fault.Canceled {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	tasktest.Refused(t, Tasks(), map[string]task.Table{
		"icap://scanner": {Task: "icap"}, "icap://scanner #": {Task: "icap", URL: "http://x/y"}, "icap://scanner #2": {Task: "icap", URL: "icap://x"}, "icap://scanner #3": {Task: "icap", URL: "icap://u:p@x/y"},
	})
}

// TestReal: c-icap leaves files as they are with its echo service, with and without content
// to think about, and refuses what its content filter finds.
func TestReal(t *testing.T) {
	at := icapserver.Start(t)
	large := strings.Repeat("0123456789abcdef", 1<<18)
	for _, content := range []string{"content", "", large} {
		if res, err := scan(t, at+icapserver.Echo, content); err != nil || !strings.Contains(string(res.Output), "found nothing") {
			t.Errorf("%d bytes: %s, %v", len(content), res.Output, err)
		}
	}
	if _, err := scan(t, at+icapserver.Filter+"?profile=default", "all is well"); err != nil {
		t.Errorf("harmless: %v", err)
	}
	for _, content := range []string{"this has the " + icapserver.Forbidden + " in it", strings.Repeat("harmless ", 5000) + icapserver.Forbidden} {
		if _, err := scan(t, at+icapserver.Filter, content); fault.KindOf(err) != fault.Refused {
			t.Errorf("%d bytes with a forbidden word: %v", len(content), err)
		}
	}
	if _, err := scan(t, at+"/nowhere", "content"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no such service: %v", err)
	}
}
