package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/spec/adminpb"
)

// smallDisk mounts a disk of a size, as "64k", at a directory, until the test is over.
func smallDisk(t *testing.T, at, size string) {
	t.Helper()
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", at, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		t.Skip("no tmpfs can be mounted:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill leaves no page of a disk free.
func fill(t *testing.T, ballast string) {
	t.Helper()
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !strings.Contains(err.Error(), "no space") {
		t.Fatal(err)
	}
}

// TestAuditDiskFull: while the audit log's disk is full and each order has to be recorded, orders
// are refused with the disk's error, and are not done; looks and transfers go on. When
// there is room again, they are taken, and all that were taken are in the log, each once. With
// sync = "second" none is refused.
func TestAuditDiskFull(t *testing.T) {
	for _, sync := range []string{"each", "second"} {
		t.Run(sync, func(t *testing.T) {
			a := newHost(t, "a")
			cfg := a.config("[audit]\nenabled = true\nsync = \"" + sync + "\"\n")
			dir := node.AuditDir(cfg.Node.State)
			smallDisk(t, dir, "64k")
			a.start(cfg)
			client, err := admin.Dial(cfg.Node.Admin)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx := context.Background()
			a.write("x", "content")
			taken, refused := map[string]bool{}, ""
			order := func(n int) (refusal error) {
				reply, err := client.Submit(ctx, &adminpb.SubmitRequest{Partner: "a", Rule: "push", Source: "x", Target: fmt.Sprint("y", n)})
				if err == nil {
					taken[reply.GetRequest().GetId()] = true
				}
				return err
			}
			ballast := filepath.Join(dir, "ballast")
			fill(t, ballast)
			n := 0
			for ; n < 60 && refused == ""; n++ { // the log's last page has room for some
				if err := order(n); err != nil {
					refused = err.Error()
				}
			}
			if sync == "each" && !strings.Contains(refused, "no space left on device") || sync != "each" && refused != "" {
				t.Errorf("after %d orders: %q", n, refused)
			}
			eventually(t, func() bool { return a.metric(`pannier_audit_records_total{status="failed"}`) > 0 }, func() string { return "no failure is counted" })
			if _, err := client.NodeInfo(ctx, &adminpb.NodeInfoRequest{}); err != nil {
				t.Error("a look:", err)
			}
			own := a.submit("a", "push", "x", "own")
			a.done(own)
			if got := a.read("own"); got != "content" {
				t.Error(got)
			}
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(20 * time.Millisecond) {
				if err := order(1000); err == nil {
					break
				}
			}
			made := map[string]bool{}
			r, err := client.List(ctx, &adminpb.ListRequest{})
			for err == nil {
				var one *adminpb.Request
				if one, err = r.Recv(); err == nil && one.GetRole() == adminpb.Request_REQUESTER && one.GetId() != own.Key.ID.String() {
					made[one.GetId()] = true
				}
			}
			a.end()
			recorded := map[string]int{}
			for r, err := range audit.Read(dir) {
				if err != nil {
					t.Fatal(err)
				}
				if r.Do == "Submit" {
					recorded[r.On]++
				}
			}
			for id := range made {
				if !taken[id] {
					t.Errorf("%s: it was refused, and done", id)
				}
			}
			for id := range taken {
				if !made[id] || recorded[id] != 1 {
					t.Errorf("%s: it was taken; made %v, %d times in the log", id, made[id], recorded[id])
				}
			}
			if v, err := audit.Verify(dir, "", ""); err != nil || v.Finding != nil {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}
