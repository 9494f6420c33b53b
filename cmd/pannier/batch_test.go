package main

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/spec/adminpb"
)

// inOrder is a daemon that remembers in which order requests come.
type inOrder struct {
	adminpb.AdminClient
	mu  sync.Mutex
	got map[string][]string // sources, by partner and rule, and by id
}

func (d *inOrder) Submit(_ context.Context, o *adminpb.SubmitRequest, _ ...grpc.CallOption) (*adminpb.SubmitReply, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range []string{o.Partner + " " + o.Rule, o.Id} {
		d.got[key] = append(d.got[key], o.Source)
	}
	return &adminpb.SubmitReply{Made: true, Request: &adminpb.Request{Id: o.Id}}, nil
}

// TestBatchOrder: requests with one partner and rule, and those of one id, are registered in the order
// of their lines.
func TestBatchOrder(t *testing.T) {
	d := &inOrder{got: map[string][]string{}}
	b := &batch{client: &admin.Client{AdminClient: d}, cmd: &cobra.Command{}}
	want := map[string][]string{}
	for i := range 2000 {
		o := &adminpb.SubmitRequest{Partner: fmt.Sprint("p", i%3), Rule: fmt.Sprint("r", i%2), Source: fmt.Sprint(i), Id: fmt.Sprint("id", i/2)}
		for _, key := range []string{o.Partner + " " + o.Rule, o.Id} {
			want[key] = append(want[key], o.Source)
		}
		b.items = append(b.items, batchItem{order: o})
	}
	for i, r := range b.registerAll(t.Context()) {
		if r.err != nil || !r.made || r.request.GetId() != b.items[i].order.Id {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	if !reflect.DeepEqual(d.got, want) {
		t.Error("the order is another")
	}
}
