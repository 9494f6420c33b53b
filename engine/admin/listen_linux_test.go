package admin_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/admin/admintest"
	"github.com/pannier/pannier/flow/flowtest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

const stranger = 65534

// dialAs connects to the socket as that user: credentials are those of the thread.
func dialAs(path string, uid int) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			got <- result{nil, errno}
			return
		}
		c, err := net.Dial("unix", path)
		got <- result{c, err}
	}()
	r := <-got
	return r.c, r.err
}

// TestUsers: whom the kernel calls a stranger is refused with a reason, whatever the
// mode of the socket, unless the stranger is named.
func TestUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	for _, users := range [][]int{nil, {stranger}} {
		dir := shortDir(t)
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "s")
		l, err := admin.Listen("unix://"+path, admin.Access{Mode: 0o666, Users: users})
		if err != nil {
			t.Fatal(err)
		}
		log := &flowtest.Log{}
		s, err := admin.New(admin.Config{Engine: admintest.New("here", engine.Book{}), Node: "here", Log: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		for _, uid := range []int{0, stranger} {
			conn, err := grpc.NewClient("passthrough:s", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return dialAs(path, uid) }))
			if err != nil {
				t.Fatal(err)
			}
			_, err = adminpb.NewAdminClient(conn).NodeInfo(t.Context(), &adminpb.NodeInfoRequest{})
			if may := uid == 0 || users != nil; may && err != nil {
				t.Errorf("user %d of %v: %v", uid, users, err)
			} else if !may && status.Code(err) != codes.PermissionDenied {
				t.Errorf("a client that knows nothing but gRPC: %v", err)
			} else if err = admin.FromStatus(err); !may && (!errors.Is(err, fault.Permission) || !strings.Contains(err.Error(), "user 65534")) {
				t.Errorf("user %d of %v: %v", uid, users, err)
			}
			conn.Close()
		}
		if refused := strings.Contains(log.String(), `caller="user 65534"`); refused != (users == nil) {
			t.Errorf("users %v: log %q", users, log.String())
		}
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}
