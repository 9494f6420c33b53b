package icap

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/pannier/pannier/engine/task"
	"github.com/pannier/pannier/spec/fault"
)

// scanTask asks a server whether a file is good. It changes nothing, so that a second run
// is as the first.
type scanTask struct{ address, service, host string }

func newScan(t *task.Table) (task.Task, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "icap" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") == "" || strings.ContainsAny(t.URL, " \r\n") {
		return nil, fault.New("check table", fault.Invalid, "url is the service of a server that looks at files, as \"icap://scanner.example:1344/avscan\"")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, fault.New("check table", fault.Invalid, "url has the port %s: write 1 to 65535", p)
		}
	}
	return scanTask{net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "1344")), t.URL, u.Host}, nil
}

// Run implements task.Task. What the server finds, or would replace, is Refused.
func (s scanTask) Run(ctx context.Context, on *task.On) (task.Result, error) {
	if err := task.NeedFile(on); err != nil {
		return task.Result{}, err
	}
	f, err := task.OpenRegular(on.Root, on.File)
	if err != nil {
		return task.Result{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return task.Result{}, err
	}
	c, err := dial(ctx, s.address)
	if err != nil {
		return task.Result{}, fault.Wrap("scan", s.host, err)
	}
	defer func() { c.close() }()
	methods, over, err := c.options(s.service, s.host)
	if err != nil {
		return task.Result{}, c.failed(ctx, s.host, err)
	}
	if over {
		next, err := dial(ctx, s.address)
		if err != nil {
			return task.Result{}, fault.Wrap("scan", s.host, err)
		}
		c.close()
		c = next
	}
	v, err := c.modify(s.service, s.host, methods, on.File.Base(), f, fi.Size())
	if err != nil {
		return task.Result{}, c.failed(ctx, s.host, err)
	}
	after, err := f.Stat()
	if err != nil {
		return task.Result{}, err
	}
	if after.Size() != fi.Size() || !after.ModTime().Equal(fi.ModTime()) {
		return task.Result{}, fault.New("scan", fault.SourceChanged, "it was written to while the server looked at it")
	}
	if v != "" {
		return task.Result{}, fault.New("scan", fault.Refused, "%s: %s", s.host, v)
	}
	return task.Result{Output: []byte(s.host + " found nothing\n")}, nil
}
