package node_test

import (
	"context"
	"fmt"
	"log"

	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/node"
	"github.com/pannier/pannier/engine/store"
	"github.com/pannier/pannier/spec/relpath"
)

// A node within a service: what `pannier serve` does, and a request to it.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cfg, err := config.Load("/etc/pannier/pannier.toml")
	if err != nil {
		log.Fatal(err)
	}
	n, err := node.Open(ctx, cfg, node.Options{})
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Print(n.Run(ctx)) }() // until ctx ends; then it drains

	movie, err := relpath.Parse("movie.mov") // below the root of the rule
	if err != nil {
		log.Fatal(err)
	}
	r, _, err := n.Engine().Submit(ctx, engine.Order{Partner: "hostb", Rule: "files", Source: movie})
	if err != nil {
		log.Fatal(err)
	}
	// The request is durable. Nobody has to wait for it.
	end, err := n.Engine().Wait(ctx, store.RefOf(&r))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(end.State, end.Failure.Cause)
}
