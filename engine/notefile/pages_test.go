package notefile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/pannier/pannier/spec/fault"
)

// TestRot: whatever is wrong with a file, opening it says so, or all that is read of it is what was written, or is
// known to be damaged; bbolt, which panics in goroutines of its own, is never asked.
func TestRot(t *testing.T) {
	const n = 3000
	dir, bucket := t.TempDir(), []byte("b")
	path := filepath.Join(dir, "x.db")
	value := func(i int) []byte {
		return fmt.Appendf(nil, "the note of %d, which has so many digits: %0*d", i, i%700, i)
	}
	f, err := Open(path, "tests", bucket)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Update(func(tx *bbolt.Tx) error {
		for i := range n {
			k := fmt.Appendf(nil, "%08d", i)
			if err := tx.Bucket(bucket).Put(k, Seal(k, value(i))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used, err := Used(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	whole = whole[:used]
	rnd, page := rand.New(rand.NewPCG(1, 31)), os.Getpagesize()
	refused, found, whollyRead := 0, 0, 0
	for i := range 600 {
		b := bytes.Clone(whole)
		switch at := (2 + rnd.IntN(len(b)/page-2)) * page; i % 4 {
		case 0: // the head of a page, where references and lengths are
			b[at+rnd.IntN(64)] ^= byte(1 + rnd.IntN(255))
		case 1, 2:
			b[rnd.IntN(len(b))] ^= byte(1 << rnd.IntN(8))
		case 3:
			b = b[:rnd.IntN(len(b))]
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path, "tests", bucket)
		if err != nil {
			if fault.KindOf(err) != fault.Corrupt {
				t.Fatalf("damage %d: %v", i, err)
			}
			refused++
			continue
		}
		good, bad := 0, 0
		err = f.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
				var at int
				_, _ = fmt.Sscanf(string(k), "%08d", &at)
				switch got, ok := Unseal(k, v); {
				case !ok:
					bad++
				case !bytes.Equal(got, value(at)):
					t.Errorf("damage %d: the note of %q is %q", i, k, got)
				default:
					good++
				}
				return nil
			})
		})
		if err != nil || f.Close() != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		switch {
		case bad > 0:
			found++
		case good == n || good == 0 && len(b) < page*4: // only the first pages are left, of before anything was written
			whollyRead++
		default:
			t.Errorf("damage %d: %d of %d notes, and nothing is wrong", i, good, n)
		}
	}
	if refused < 100 || found < 50 {
		t.Errorf("%d refused, %d found, %d harmless", refused, found, whollyRead)
	}
	t.Logf("%d refused, %d found by the check of a note, %d harmless", refused, found, whollyRead)
}

// TestSeal: a value is what was written, under its key, or it is known to be damaged.
func TestSeal(t *testing.T) {
	sealed := Seal([]byte("k"), []byte("value"))
	if v, ok := Unseal([]byte("k"), sealed); !ok || string(v) != "value" {
		t.Errorf("%q, %v", v, ok)
	}
	if _, ok := Unseal([]byte("l"), sealed); ok {
		t.Error("it is taken for another's")
	}
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 1
		if _, ok := Unseal([]byte("k"), b); ok {
			t.Errorf("a change at %d is not seen", i)
		}
	}
	for i := range sealed {
		if _, ok := Unseal([]byte("k"), sealed[:i]); ok {
			t.Errorf("%d bytes of it are believed", i)
		}
	}
	if _, ok := Unseal(nil, binary.BigEndian.AppendUint32(nil, 0)); !ok {
		t.Error("the check of nothing is not 0")
	}
}
