package plugintest

import "time"

// Beyond is the size of the file of the check "beyond 4 GiB" until the end of the test.
func Beyond(t interface{ Cleanup(func()) }, size int64) {
	old := beyond
	beyond = size
	t.Cleanup(func() { beyond = old })
}

// More is how much longer the named check may take than others.
func (h Harness) More(name string) time.Duration { return h.more(check{name: name}) }
