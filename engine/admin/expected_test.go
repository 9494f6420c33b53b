package admin

import (
	"fmt"
	"testing"
	"time"

	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
)

// TestStillToCome: what would be missing at once is refused; what cannot be read is another's.
func TestStillToCome(t *testing.T) {
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		at, zone, expire string
		refused          bool
	}{
		{"2026-12-01 18:00", "UTC", "", false}, {"2026-12-01 11:00", "UTC", "", false}, {"2026-11-30 13:00", "UTC", "", false},
		{"2026-11-30 11:00", "UTC", "", true}, {"2020-01-01 18:00", "", "", true}, {"2026-11-30 11:00", "UTC", "2d", false},
		{"2026-12-01 11:00", "UTC", "30m", true}, {"2026-12-01T10:00:00Z", "Europe/Berlin", "1h", true}, {"2026-12-01 12:10", "Europe/Berlin", "1h", false},
		{"", "", "", false}, {"soon", "", "", false}, {"2020-01-01 18:00", "Nowhere/Else", "", false}, {"2020-01-01 18:00", "", "never", false},
	} {
		err := stillToCome(&adminpb.AddExpectedRequest{At: tc.at, Zone: tc.zone, Expire: tc.expire}, now)
		if (err != nil) != tc.refused || err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

// full is a node that expects as many files as it may.
type full struct{ Objects }

func (full) List() (all []Object, revision uint64, err error) {
	for i := range mostExpected {
		all = append(all, Object{Kind: expectKind, Name: fmt.Sprint(i)})
	}
	return all, 0, nil
}

type none struct{ Expecting }

func (none) List() ([]schedule.Expectation, error) { return nil, nil }

// TestExpectedLimit: there are only so many, and a name is not there twice.
func TestExpectedLimit(t *testing.T) {
	s := &Server{cfg: Config{Objects: full{}, Expecting: none{}}}
	for name, want := range map[string]fault.Kind{"x": fault.Overloaded, "7": fault.Exists} {
		if _, err := s.AddExpected(t.Context(), &adminpb.AddExpectedRequest{Name: name}); fault.KindOf(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
