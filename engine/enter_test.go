package engine_test

import "testing"

// TestEnter: what a partner wants to know takes a place of those that are served.
func TestEnter(t *testing.T) {
	p := newPair(t, func(n *node) { n.limits.Serving = 2 })
	e := p.nodes["b"].engine
	first, ok := e.Enter("a")
	second, alsoOK := e.Enter("a")
	if !ok || !alsoOK {
		t.Fatal("there are places, and none is given")
	}
	if _, ok := e.Enter("a"); ok {
		t.Error("one more than there are")
	}
	first()
	third, ok := e.Enter("a")
	if !ok {
		t.Fatal("a place that was left is not given again")
	}
	second()
	third()
}
