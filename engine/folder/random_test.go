package folder

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRandom does random things in a folder, to its engine and to its process. Whatever they are: no
// version is delivered twice, nothing is delivered that was not whole, and what is there in the end was
// delivered last.
func TestRandom(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 6))
			after := []Action{Keep, Delete, Move}[seed%3]
			b := begin(t, func(f *Folder) {
				f.After, f.Open = after, 1+rnd.IntN(4)
				if after == Move {
					f.To = pathOf(t, "in/sent")
				}
				if seed%2 == 0 {
					f.Closed, f.Stable = true, time.Second
				}
			})
			r := &random{bench: b, rnd: rnd, model: map[string]string{}}
			for range 60 {
				r.step()
			}
			r.end()
		})
	}
}

// random is one run. The model is the content that each name has, or had when the folder took
// it away.
type random struct {
	*bench
	rnd   *rand.Rand
	model map[string]string
	n     int
}

var names = []string{"in/a", "in/b", "in/sub/c", "in/sub/deep/d"}

func (r *random) name() string { return names[r.rnd.IntN(len(names))] }

func (r *random) full(name string) string {
	full := filepath.Join(r.root, name)
	os.MkdirAll(filepath.Dir(full), 0o755)
	return full
}

func (r *random) content() string {
	r.n++
	return fmt.Sprintf("<%d%s>", r.n, strings.Repeat("x", r.rnd.IntN(5)))
}

func (r *random) step() {
	name, content := r.name(), r.content()
	switch r.rnd.IntN(12) {
	case 0, 1: // written at once
		r.write(name, content)
		r.model[name] = content
	case 2, 3: // written slowly, in place
		f, err := os.OpenFile(r.full(name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			r.t.Fatal(err)
		}
		f.WriteString(content[:1])
		time.Sleep(time.Duration(r.rnd.IntN(60)) * time.Millisecond)
		f.WriteString(content[1:])
		f.Close()
		r.model[name] = content
	case 4, 5: // renamed in
		temp := filepath.Join(r.root, "temp")
		if err := os.WriteFile(temp, []byte(content), 0o644); err != nil {
			r.t.Fatal(err)
		}
		if err := os.Rename(temp, r.full(name)); err != nil {
			r.t.Fatal(err)
		}
		r.model[name] = content
	case 6: // renamed within
		other := r.name()
		if other != name && os.Rename(r.full(name), r.full(other)) == nil {
			r.model[other] = r.model[name]
			delete(r.model, name)
		}
	case 7:
		if os.Remove(r.full(name)) == nil {
			delete(r.model, name)
		}
	case 8:
		r.restart()
	case 9:
		r.mu.Lock()
		r.hold = true
		r.mu.Unlock()
	case 10:
		r.release()
	case 11:
		time.Sleep(time.Duration(r.rnd.IntN(100)) * time.Millisecond)
	}
}

func (r *random) end() {
	r.release()
	r.restart()
	s := r.settled()
	r.mu.Lock()
	defer r.mu.Unlock()
	for version, n := range r.versions {
		if n > 1 {
			r.t.Errorf("a version of %q was delivered %d times", version[:strings.IndexByte(version, 1)], n)
		}
	}
	for name, all := range r.delivered {
		for _, c := range all {
			if !strings.HasPrefix(c, "<") || !strings.HasSuffix(c, ">") {
				r.t.Errorf("%s was delivered with %q", name, c)
			}
		}
	}
	for name, want := range r.model {
		if all := r.delivered[name]; !slices.Contains(all, want) || exists(filepath.Join(r.root, name)) && all[len(all)-1] != want {
			r.t.Errorf("%s has %q, delivered was %q; %+v", name, want, all, s)
		}
		if there := exists(filepath.Join(r.root, name)); there != (r.cfg.Folder.After == Keep) {
			r.t.Errorf("%s is there: %v", name, there)
		}
	}
	if s.Failed > 0 {
		r.t.Errorf("%+v", s)
	}
}
