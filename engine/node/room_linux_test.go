package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// TestStateDiskFull: while the disk of the state directory is full, new requests are refused in words
// that say what to do, /readyz, the metric and the log say so, and looks go on. When there is room
// again, all is as before without anybody's help, and what was taken is done.
func TestStateDiskFull(t *testing.T) {
	h := newHost(t, "a")
	w := &web{host: h}
	cfg := h.config(fmt.Sprintf(overTLS, h.dir))
	smallDisk(t, cfg.Node.State, "24m")
	w.start(cfg)
	w.meet()
	client, err := admin.Dial(cfg.Node.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	h.write("x", "content")
	taken := 0
	order := func(target string, from time.Time) (string, error) {
		reply, err := client.Submit(t.Context(), &adminpb.SubmitRequest{Partner: "a", Rule: "push", Source: "x", Target: target, Info: strings.Repeat("i", 900), NotBefore: timestamppb.New(from)})
		if err == nil {
			taken++
		}
		return reply.GetRequest().GetId(), err
	}
	ballast := filepath.Join(cfg.Node.State, "ballast")
	fill(t, ballast)
	first, err := order("first", time.Now().Add(-time.Hour)) // the log's file has room still
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 10000 && err == nil; n++ {
		_, err = order(fmt.Sprint("y", n), time.Now().Add(24*time.Hour))
	}
	if got := fault.KindOf(admin.FromStatus(err)); got != fault.NoSpace || !strings.Contains(err.Error(), "make room on the file system of its state directory, and submit it again") {
		t.Fatalf("after %d requests: %v, %v", taken, got, err)
	}
	if code, _, text := w.ask("", "GET", "/readyz", ""); code != 503 || !strings.Contains(text, "no room to write requests down") {
		t.Errorf("ready: %d %s", code, text)
	}
	if code, _, text := w.ask("", "GET", "/livez", ""); code != 200 {
		t.Errorf("alive: %d %s", code, text)
	}
	if code, _, text := w.ask("", "POST", "/v1/requests", `{"partner":"a","rule":"push","source":"x","target":"z","info":"`+strings.Repeat("i", 900)+`"}`); code != 507 || !strings.Contains(text, "make room") {
		t.Errorf("over HTTP: %d %s", code, text)
	}
	if n := h.metric(`pannier_store_failures_total{status="no space"}`); n < 1 {
		t.Errorf("%v failures are counted", n)
	}
	if !strings.Contains(h.log.String(), "there is no room to write requests down") {
		t.Error("the log does not say it")
	}
	if _, err := client.NodeInfo(t.Context(), &adminpb.NodeInfoRequest{}); err != nil {
		t.Error("a look:", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	last := ""
	eventually(t, func() bool {
		last, err = order("last", time.Now().Add(-time.Hour))
		return err == nil
	}, func() string { return "room, and no request is taken: " + err.Error() })
	for _, id := range []string{first, last} {
		eventually(t, func() bool {
			r, err := client.Get(t.Context(), &adminpb.Ref{Id: id, Requester: "a"})
			return err == nil && r.GetState() == adminpb.Request_DONE
		}, func() string { return id + " is not done" })
	}
	if code, _, text := w.ask("", "GET", "/readyz", ""); code != 200 {
		t.Errorf("ready again: %d %s", code, text)
	}
	w.https.CloseIdleConnections()
	w.local.CloseIdleConnections()
	h.end()
}
