package places

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func at(t *testing.T, address string) netip.Prefix {
	t.Helper()
	a, err := netip.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	return Source(a)
}

func TestSource(t *testing.T) {
	if at(t, "2001:db8::1") != at(t, "2001:db8::ffff") || at(t, "2001:db8::1") == at(t, "2001:db8:0:1::1") || at(t, "fe80::1%eth0") != at(t, "fe80::2") ||
		at(t, "1.2.3.4") != at(t, "::ffff:1.2.3.4") || at(t, "1.2.3.4") == at(t, "1.2.3.5") {
		t.Error("who counts as one")
	}
}

// TestRoom: who makes room, and who does not.
func TestRoom(t *testing.T) {
	for name, c := range map[string]struct {
		limits Limits
		come   []string // "ADDRESS", "ADDRESS known"; each is numbered
		gone   []int
		last   error
	}{
		"room for all":                 {Limits{3, 3, 3}, []string{"1.1.1.1", "1.1.1.1", "1.1.1.1"}, nil, nil},
		"the longest":                  {Limits{3, 3, 3}, []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"}, []int{0}, nil},
		"not who has logged in":        {Limits{3, 3, 3}, []string{"1.1.1.1 known", "1.1.1.2", "1.1.1.3", "1.1.1.4"}, []int{1}, nil},
		"of too many strangers":        {Limits{9, 9, 2}, []string{"1.1.1.1 known", "1.1.1.2", "1.1.1.3", "1.1.1.4"}, []int{1}, nil},
		"who has logged in is none":    {Limits{9, 9, 2}, []string{"1.1.1.1 known", "1.1.1.2 known", "1.1.1.3 known", "1.1.1.4"}, nil, nil},
		"of those with the most":       {Limits{4, 3, 4}, []string{"1.1.1.1", "1.1.1.2", "1.1.1.2", "1.1.1.3", "1.1.1.4"}, []int{1}, nil},
		"of a network":                 {Limits{3, 3, 3}, []string{"1.1.1.1", "2001:db8::1", "2001:db8::2", "1.1.1.4"}, []int{1}, nil},
		"all have logged in":           {Limits{2, 2, 2}, []string{"1.1.1.1 known", "1.1.1.2 known", "1.1.1.3"}, nil, ErrAll},
		"of one address":               {Limits{9, 2, 9}, []string{"1.1.1.1", "1.1.1.1 known", "1.1.1.1"}, nil, ErrEach},
		"who floods displaces himself": {Limits{9, 4, 3}, []string{"1.1.1.9", "1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.1"}, []int{1, 2, 3}, nil},
	} {
		p, gone := New(c.limits), []int(nil)
		var all []*Place
		var last error
		for i, who := range c.come {
			var address, known string
			_, _ = fmt.Sscan(who, &address, &known)
			var one *Place
			if one, last = p.Enter(at(t, address), func() { gone = append(gone, i) }); last != nil {
				continue
			}
			if all = append(all, one); known != "" && !one.Known() {
				t.Errorf("%s: %d had to go", name, i)
			}
		}
		if !slices.Equal(gone, c.gone) || !errors.Is(last, c.last) {
			t.Errorf("%s: %v are gone, want %v; %v, want %v", name, gone, c.gone, last, c.last)
		}
		for i, one := range all {
			if one.Known() == slices.Contains(gone, i) {
				t.Errorf("%s: whether %d had to go", name, i)
			}
			one.Exit()
			one.Exit()
		}
		if p.all != 0 || len(p.from) > 0 || p.strangers.Len() > 0 {
			t.Errorf("%s: %d places of %d addresses are taken by nobody, %d strangers", name, p.all, len(p.from), p.strangers.Len())
		}
	}
}
