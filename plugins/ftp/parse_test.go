package ftp

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

func TestParseList(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	day := func(y int, m time.Month, d, hour, minute int) time.Time {
		return time.Date(y, m, d, hour, minute, 0, 0, time.UTC)
	}
	for line, want := range map[string]plugins.Attr{
		"-rw-r--r--    1 ftp      ftp          1234 Jan 02 03:04 a b":         {Name: "a b", Size: 1234, Modified: day(2026, 1, 2, 3, 4)},
		"-rw-r--r--    1 ftp      ftp             0 Dec 31 23:59  blank":      {Name: " blank", Modified: day(2025, 12, 31, 23, 59)},
		"drwxr-xr-x+   2 1000     group        4096 Feb 28  2024 dir":         {Name: "dir", Size: -1, Dir: true, Modified: day(2024, 2, 28, 0, 0)},
		"lrwxrwxrwx    1 0        0               7 Jan 02 03:04 l -> target": {Name: "l", Size: -1, Modified: day(2026, 1, 2, 3, 4)},
		"01-02-26  03:04PM       <DIR>          some dir":                     {Name: "some dir", Size: -1, Dir: true, Modified: day(2026, 1, 2, 15, 4)},
		"01-02-2026  15:04              5000000000 big.bin":                   {Name: "big.bin", Size: 5_000_000_000, Modified: day(2026, 1, 2, 15, 4)},
	} {
		if e, ok := parseList(line, now); !ok || e.Attr != want || e.self {
			t.Errorf("%q is %+v, %v; want %+v", line, e, ok, want)
		}
	}
	for _, line := range []string{"", "hello", "-rw-r--r-- 1 a b Jan 02 03:04 no size", "-rw-r--r-- 1 a b 99999999999999999999 Jan 02 03:04 f", "01-02-26 03:04PM many f"} {
		if e, ok := parseList(line, now); ok {
			t.Errorf("%q is %+v", line, e)
		}
	}
	if e, ok := parseList("drwxr-xr-x 2 a b 4096 Jan 02 03:04 ..", now); !ok || !e.self {
		t.Error(".. is an entry")
	}
}

func TestPart(t *testing.T) {
	for _, target := range []string{"/f", "/d/f.csv", "/" + strings.Repeat("x", 255), "/d/" + strings.Repeat("é", 127), "/" + strings.Repeat("x", 199) + "é"} {
		tok := newToken("")
		part := tok.part(target)
		base := part[strings.LastIndex(part, "/")+1:]
		if plugins.CheckName(part) != nil || len(base) > 255 || !strings.HasSuffix(base, tok.ID+".part") || part == newToken("").part(target) {
			t.Errorf("%q of %q", part, target)
		}
	}
}

func TestPorts(t *testing.T) {
	for text, want := range map[string]uint16{"Entering (|||6446|)": 6446, "(!!!1024!)": 1024, "(|||1023|)": 0, "(|||65536|)": 0, "(|2|::1|6446|)": 0, "|||6446|": 0, "()": 0} {
		if got, ok := extendedPort(text); ok != (want != 0) || (ok && got != want) {
			t.Errorf("%q is %d, %v", text, got, ok)
		}
	}
	for text, want := range map[string]uint16{"Entering Passive Mode (192,0,2,1,4,1).": 1025, "=1,2,3,4,255,255": 65535, "(1,2,3,4,0,25)": 0, "(1,2,3,4,5)": 0, "(1,2,3,4,256,1)": 0, "none": 0} {
		if got, ok := passivePort(text); ok != (want != 0) || (ok && got != want) {
			t.Errorf("%q is %d, %v", text, got, ok)
		}
	}
}

func TestQuotedPath(t *testing.T) {
	for text, want := range map[string]string{`"/a" is here`: "/a", `"/a ""b"" c"`: `/a "b" c`, `"/a`: "", `none`: "", `""`: ""} {
		if got, ok := quotedPath(text); ok != (want != "") || (ok && got != want) {
			t.Errorf("%q is %q, %v", text, got, ok)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"220 hello\r\n", "220-a\r\nb\r\n220 c\r\n", "220-\n 220 x\n", "99 no\n", "220"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := readReply(bufio.NewReaderSize(strings.NewReader(s), maxLine))
		if err != nil {
			return
		}
		if r.code < 100 || r.code > 699 || len(r.lines) == 0 {
			t.Errorf("%+v", r)
		}
		_, _ = extendedPort(r.text())
		_, _ = passivePort(r.text())
		_, _ = quotedPath(r.text())
		if fault.KindOf((&conn{s: &session{config: &config{}}}).refused("RETR", "/f", r)) == fault.Internal {
			t.Errorf("%+v is a defect here", r)
		}
		_ = parseFeatures(r.lines)
	})
}

func FuzzListing(f *testing.F) {
	for _, s := range []string{"type=file;size=1; a", "-rw-r--r-- 1 a b 12 Jan 02 03:04 f", "01-02-26  03:04PM <DIR> d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (entry, bool){parseFacts, func(s string) (entry, bool) { return parseList(s, time.Now()) }} {
			if e, ok := parse(s); ok && (e.Size < -1 || e.Name == "" && !strings.HasPrefix(s, "l")) {
				t.Errorf("%q is %+v", s, e)
			}
		}
	})
}
