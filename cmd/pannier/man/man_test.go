package man

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

var day = time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC)

// TestCommand: what a help has is in its page, and means nothing to the reader of it.
func TestCommand(t *testing.T) {
	root := &cobra.Command{Use: "pannier"}
	cmd := &cobra.Command{
		Use: "send FILE", Short: "Send a file", RunE: func(*cobra.Command, []string) error { return nil },
		Long:    "Send a file.\n\n'quoted', then\n.a request, a \\ and ~.\n\nname    aligned\nother   too",
		Example: "  # once\n  pannier send x*y --at '20:00'\n  .hidden",
	}
	cmd.Flags().StringP("at", "a", "now", "do not begin before this `TIME`")
	cmd.Flags().Bool("wait", false, "see it through")
	root.AddCommand(cmd)
	const want = `.TH PANNIER\-SEND 1 2026-01-31 Pannier
.nh
.ad l
.SH "NAME"
pannier\-send \- Send a file
.SH "SYNOPSIS"
\fBpannier send\fR FILE [flags]
.SH "DESCRIPTION"
Send a file.
.PP
\(aqquoted\(aq, then .a request, a \e and \(ti.
.PP
.EX
name    aligned
other   too
.EE
.SH "OPTIONS"
.TP
\fB\-a\fR, \fB\-\-at\fR \fITIME\fR
do not begin before this TIME (default: now)
.TP
\fB\-\-wait\fR
see it through
.SH "EXAMPLES"
.EX
# once
pannier send x*y \-\-at \(aq20:00\(aq
\&.hidden
.EE
.SH "SEE ALSO"
pannier(1), pannier.toml(5)
`
	if got := string(Command(cmd, day)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestDocument: each kind of part of a document.
func TestDocument(t *testing.T) {
	const text = "# Title\n\nIt has **bold**, `code`\nand [a link](x.md).\n\n## Shapes\n\n| shape | written |\n|---|---|\n| rate | `\"1\\|2\"` |\n| | `'x'` |\n\n## `[node]`\n\n" +
		"| key | shape | default | meaning |\n|---|---|---|---|\n| `name` | text | required | who |\n| `log` | text | `info` | what |\n\n### `deep`\n\n- one\n- two\n\n```toml\n[node]\n\nx = 1\n```\n"
	const want = `.TH X.TOML 5 2026-01-31 Pannier
.nh
.ad l
.SH "NAME"
x.toml \- about
.SH "DESCRIPTION"
It has \fBbold\fR, \fBcode\fR and a link.
.SH "SHAPES"
.TP
rate
\fB"1|2"\fR
.IP
\fB\(aqx\(aq\fR
.SH "[node]"
.TP
\fBname\fR (text, required)
who
.TP
\fBlog\fR (text; default: \fBinfo\fR)
what
.SS "deep"
.TP
\(bu
one
.TP
\(bu
two
.PP
.EX
[node]

x = 1
.EE
.SH "SEE ALSO"
y(1)
`
	if got := string(Document("x.toml", "about", text, []string{"y(1)"}, day)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for line := range strings.Lines(string(Document("x", "y", strings.Repeat("many words ", 100)+"\n\n'", nil, day))) {
		if len(line) > widest+1 {
			t.Errorf("a long line: %s", line)
		}
	}
}
