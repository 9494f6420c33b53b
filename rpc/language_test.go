package rpc_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/rpc/internal/storepb"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// python is a command of testdata/peer.py, with what protoc makes of the service beside it.
func python(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	const interpreter = "/usr/bin/python3" // the system's, for which the packages are installed
	if out, err := exec.Command(interpreter, "-c", "import grpc, google.protobuf").CombinedOutput(); err != nil {
		t.Skipf("no %s with grpcio and protobuf: %v %s", interpreter, err, bytes.TrimSpace(out))
	}
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("there is no protoc: peers in another language are not tested; apt-get install protobuf-compiler")
	}
	dir := t.TempDir()
	if out, err := exec.Command("protoc", "-I", "internal/storepb", "--python_out="+dir, "store.proto").CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v %s", err, out)
	}
	script, err := filepath.Abs("testdata/peer.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), interpreter, append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
	cmd.WaitDelay = time.Second
	return cmd
}

// TestClientInPython: calls of all four kinds from another implementation of gRPC, with metadata,
// an error, a deadline and a cancelling, at a server of ours.
func TestClientInPython(t *testing.T) {
	s, err := rpc.NewServer(rpc.ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cancelled := make(chan struct{})
	storepb.RegisterStoreServer(s, &store{
		call: func(ctx context.Context, i *storepb.Item) (*storepb.Receipt, error) {
			switch i.GetName() {
			case "fail":
				return nil, status.Error(codes.FailedPrecondition, "not today")
			case "slow":
				<-ctx.Done()
				return nil, ctx.Err()
			}
			md, _ := metadata.FromIncomingContext(ctx)
			if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("head", "h")), grpc.SetTrailer(ctx, metadata.Pairs("tail", "t"))); err != nil {
				return nil, err
			}
			return &storepb.Receipt{Name: i.GetName(), Bytes: int64(len(i.GetBody())), Notes: md.Get("from")}, nil
		},
		gather: func(st grpc.ClientStreamingServer[storepb.Item, storepb.Receipt]) error {
			n := 0
			for {
				i, err := st.Recv()
				if err == io.EOF {
					return st.SendAndClose(&storepb.Receipt{Bytes: int64(n)})
				}
				if err != nil {
					return err
				}
				n += len(i.GetBody())
			}
		},
		watch: func(i *storepb.Item, st grpc.ServerStreamingServer[storepb.Receipt]) error {
			for n := range 3 {
				if err := st.Send(&storepb.Receipt{Name: i.GetName() + strconv.Itoa(n)}); err != nil {
					return err
				}
			}
			return nil
		},
		talk: func(st grpc.BidiStreamingServer[storepb.Item, storepb.Receipt]) error {
			for {
				i, err := st.Recv()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				if err := st.Send(&storepb.Receipt{Name: i.GetName()}); err != nil {
					return err
				}
				if i.GetName() == "cancel" {
					<-st.Context().Done()
					close(cancelled)
					return st.Context().Err()
				}
			}
		},
	})
	addr, err := s.Listen("tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	if out, err := python(t, "client", strings.TrimPrefix(addr, "tcp://")).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("all answered")) {
		t.Fatalf("%v\n%s", err, out)
	}
	select {
	case <-cancelled:
	case <-within(t).Done():
		t.Error("the handler does not hear that the call was cancelled")
	}
}

// TestServerInPython: calls of ours at another implementation of gRPC. One with a side effect is
// refused before it is made, or made without it.
func TestServerInPython(t *testing.T) {
	cmd := python(t, "server")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	cc, err := rpc.Dial("tcp://127.0.0.1:"+strings.TrimSpace(port), rpc.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, stub := within(t), storepb.NewStoreClient(cc)
	body := content(1 << 20)
	if r, err := stub.Call(ctx, &storepb.Item{Name: "one", Body: body}); err != nil || r.GetName() != "one" || r.GetBytes() != 1<<20 {
		t.Fatal(r, err)
	}
	_, err = stub.Call(ctx, &storepb.Item{Name: "fail"})
	wantCode(t, err, codes.FailedPrecondition)

	d := up(sideeffect.Memory(body))
	_, err = stub.Call(ctx, &storepb.Item{Name: "one"}, rpc.With(d))
	wantKind(t, err, fault.Unsupported)
	d.Optional = true
	if r, err := stub.Call(ctx, &storepb.Item{Name: "one"}, rpc.With(d)); err != nil || r.GetName() != "one" || d.RemoteStatus != sideeffect.NotStarted {
		t.Fatal(r, err, d.Result)
	}

	gather, err := stub.Gather(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		if err := gather.Send(&storepb.Item{Body: content(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := gather.CloseAndRecv(); err != nil || r.GetBytes() != 4950 {
		t.Fatal(r, err)
	}
	watch, err := stub.Watch(ctx, &storepb.Item{Name: "w"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"w0", "w1", "w2"} {
		if r, err := watch.Recv(); err != nil || r.GetName() != want {
			t.Fatal(r, err)
		}
	}
	if _, err := watch.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	talk, err := stub.Talk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if err := talk.Send(&storepb.Item{Name: name}); err != nil {
			t.Fatal(err)
		}
		if r, err := talk.Recv(); err != nil || r.GetName() != name {
			t.Fatal(r, err)
		}
	}
	if err := talk.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := talk.Recv(); err != io.EOF {
		t.Fatal(err)
	}
}
