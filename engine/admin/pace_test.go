package admin

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin/admintest"
	"github.com/pannier/pannier/engine/lifecycle"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

func paced(t *testing.T) (*Server, *admintest.Engine) {
	t.Helper()
	e := admintest.New("here", engine.Book{})
	s, err := New(Config{Engine: e, Node: "here"})
	if err != nil {
		t.Fatal(err)
	}
	return s, e
}

func asToken(t *testing.T, id string) context.Context {
	return access.With(t.Context(), access.Caller{Name: "token " + id, Token: id, ID: id, Scopes: []access.Scope{access.Administer}})
}

// taken is a stream that takes everything.
type taken struct {
	grpc.ServerStream
	ctx context.Context
	n   int
}

func (s *taken) Context() context.Context { return s.ctx }
func (s *taken) SendMsg(any) error        { s.n++; return nil }

// TestAtATime: of calls that stay, and of those that look through much, a token has so many at a time; other
// tokens and users of this host are not counted with them, and places come back.
func TestAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := paced(t)
		most := map[string]int{adminpb.Admin_ListTokens_FullMethodName: mostCalls}
		for method, n := range mostOf {
			most[method] = n
		}
		for method, n := range most {
			one, other, local := asToken(t, "one"), asToken(t, "other"), access.With(t.Context(), access.Local(0))
			goOn := make(chan struct{})
			answers := make(chan error, 3*n)
			call := func(ctx context.Context) {
				go func() {
					answers <- s.stream(nil, &taken{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: method}, func(any, grpc.ServerStream) error { <-goOn; return nil })
				}()
			}
			for range n {
				call(one)
			}
			synctest.Wait()
			if len(answers) > 0 {
				t.Fatalf("%s: %v", method, <-answers)
			}
			call(one)
			if err := <-answers; fault.KindOf(FromStatus(err)) != fault.Overloaded {
				t.Errorf("%s: one of %d is let in: %v", method, n+1, err)
			}
			call(other)
			for range n {
				call(local)
			}
			synctest.Wait()
			if len(answers) > 0 {
				t.Errorf("%s: another caller: %v", method, <-answers)
			}
			close(goOn)
			for range 2*n + 1 {
				if err := <-answers; err != nil {
					t.Errorf("%s: %v", method, err)
				}
			}
			if call(one); <-answers != nil {
				t.Errorf("%s: no place has come back", method)
			}
		}
		s.Close()
	})
}

// TestPaceOfToken: a token that asks without a pause is let look at so much, and waits for the rest, or is refused;
// nobody else does.
func TestPaceOfToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := paced(t)
		call := func(ctx context.Context) error {
			_, err := s.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: adminpb.Admin_Get_FullMethodName}, func(context.Context, any) (any, error) { return nil, nil })
			return err
		}
		begun, n := time.Now(), 2*looksAtOnce/looksOfCall
		for range n {
			if err := call(asToken(t, "one")); err != nil {
				t.Fatal(err)
			}
		}
		if took, want := time.Since(begun), time.Second*looksAtOnce/looksPerSecond; took < want-time.Second || took > want+time.Second {
			t.Errorf("%d calls took %v, want %v", n, took, want)
		}
		begun = time.Now()
		if err := call(asToken(t, "other")); err != nil {
			t.Fatal(err)
		}
		for range n { // of no token
			if err := call(access.With(t.Context(), access.Local(0))); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("another token and a user of this host waited %v", took)
		}
		for i := range 100 {
			var st engine.Status
			st.Key = lifecycle.Key{Requester: "here", ID: lifecycle.ID{byte(i)}}
			st.Role, st.State = lifecycle.Requester, lifecycle.ToSubmit
			e.Set(st)
		}
		begun = time.Now()
		one := &taken{ctx: asToken(t, "one")}
		for range looksPerSecond / 100 {
			if err := s.List(&adminpb.ListRequest{}, &grpc.GenericServerStream[adminpb.ListRequest, adminpb.Request]{ServerStream: one}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun); one.n != looksPerSecond || took < 900*time.Millisecond || took > 1100*time.Millisecond {
			t.Errorf("to list %d requests took %v, want a second", one.n, took)
		}
		late := asToken(t, "late")
		if err := s.looked(late)(looksAtOnce); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			go func() { _ = s.looked(late)(looksPerSecond) }()
		}
		synctest.Wait()
		if err := call(late); fault.KindOf(FromStatus(err)) != fault.Overloaded {
			t.Errorf("one that would wait 4 s: %v", err)
		}
		short, cancel := context.WithTimeout(late, time.Second)
		defer cancel()
		if err := s.looked(short)(looksPerSecond); fault.KindOf(err) != fault.Deadline {
			t.Errorf("one that has no time to wait: %v", err)
		}
		s.Close()
		time.Sleep(time.Minute)
	})
}

// TestPacesForgotten: what tokens have looked at is remembered as long as it counts.
func TestPacesForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := paced(t)
		for i := range 100 {
			if err := s.turn(asToken(t, string(rune('a'+i)))); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.paces) != 100 {
			t.Errorf("%d of 100 that have looked are remembered", len(s.paces))
		}
		time.Sleep(time.Second)
		if err := s.turn(asToken(t, "new")); err != nil || len(s.paces) != 1 {
			t.Errorf("%v; %d are remembered a second later", err, len(s.paces))
		}
		s.Close()
	})
}
