package admin

import (
	"testing"
	"time"

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
