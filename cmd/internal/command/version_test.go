package command

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	info := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef"}
	dirty := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, "unknown"},
		{info(""), "(devel)"},
		{info("v1.2.3", revision), "v1.2.3"},
		{info("(devel)", revision), "(devel) 0123456789ab"},
		{info("(devel)", revision, dirty), "(devel) 0123456789ab+dirty"},
		{info("(devel)", debug.BuildSetting{Key: "vcs.revision", Value: "abc"}), "(devel) abc"},
	} {
		if got := version(c.info); got != c.want {
			t.Errorf("%+v: %q, want %q", c.info, got, c.want)
		}
	}
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, "unknown revision unknown"},
		{info("(devel)"), "(devel) revision unknown"},
		{info("v1.2.3", revision), "v1.2.3 revision 0123456789ab"},
		{info("(devel)", revision, dirty), "(devel) 0123456789ab+dirty"},
		{info("v0.0.0-20260101000000-0123456789ab+dirty", revision, dirty), "v0.0.0-20260101000000-0123456789ab+dirty"},
	} {
		if got := full(c.info); got != c.want {
			t.Errorf("%+v: %q, want %q", c.info, got, c.want)
		}
	}
}
