package audit

import (
	"path/filepath"
	"strconv"
	"testing"
)

// TestDroppedBeside: while the log tells how many records could not be kept, those that come in
// that moment are kept, each once.
func TestDroppedBeside(t *testing.T) {
	const most = 20_000
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := Open(Config{Dir: dir, Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range most {
		if i%4 == 0 { // as after the disk was full
			l.mu.Lock()
			l.dropped++
			l.mu.Unlock()
		}
		for {
			l.mu.Lock()
			room := len(l.waiting) < mostWaiting/2
			l.mu.Unlock()
			if room {
				break
			}
		}
		l.Note(Entry{Who: "user 1", Do: "Submit", On: strconv.Itoa(i)})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	next := 0
	for a, err := range lines(dir) {
		if err != nil {
			t.Fatal(err)
		}
		r, why := parse(a.text)
		if why != "" {
			t.Fatal(why)
		}
		if r.Do != "Submit" {
			continue
		}
		if r.On != strconv.Itoa(next) {
			t.Fatalf("record %d is of order %s, after that of %d", r.Seq, r.On, next-1)
		}
		next++
	}
	if next != most {
		t.Errorf("%d of %d orders are recorded", next, most)
	}
}
