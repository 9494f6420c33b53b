package node

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/audit"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/sideeffect"
	"github.com/pannier/pannier/spec/fault"
)

// AuditDir is the directory of the audit log in a state directory.
func AuditDir(state string) string { return filepath.Join(state, auditName) }

const auditName = "audit"

// itself is who has done what nobody has ordered.
const itself = "the node"

// openAudit opens the audit log, unless there is to be none.
func (n *Node) openAudit(cfg config.Audit) error {
	if !cfg.Enabled {
		return nil
	}
	rotate := cfg.Rotate
	if rotate == sideeffect.NoQuota {
		rotate = math.MaxInt64
	}
	var err error
	n.audit, err = audit.Open(audit.Config{
		Dir: AuditDir(n.fixed.State), Node: n.fixed.Name, Each: cfg.Each, Rotate: rotate, Checkpoint: cfg.Checkpoint, Copy: cfg.Copy,
		Log: n.log, Written: n.metrics.Audited,
	})
	if err != nil {
		return err
	}
	n.undone(func() error {
		n.audited(audit.Entry{Who: itself, Do: "stop"})
		return n.audit.Close()
	})
	n.audited(audit.Entry{Who: itself, Do: "start", On: n.fixed.Name, Detail: "version " + n.o.Version + ", key " + n.key})
	return nil
}

// audited records what nobody waits for.
func (n *Node) audited(e audit.Entry) {
	if n.audit != nil {
		ctx, cancel := context.WithTimeout(context.Background(), auditTime)
		defer cancel()
		_ = n.audit.Record(ctx, e) // the log counts and tells what it cannot write
	}
}

// auditTime is how long the node itself waits for a record.
const auditTime = 5 * time.Second

// auditor is the audit log for the operators' service; nil: none.
func (n *Node) auditor() admin.Audit {
	if n.audit == nil {
		return nil
	}
	return n.audit
}

// reloaded records what a new configuration has changed, or why it was refused.
func (n *Node) reloaded(is admin.Reloaded, err error) {
	e := audit.Entry{Who: itself, Do: "reload", Detail: strings.Join(slices.Concat(is.Notes, is.Problems), "; ")}
	if err != nil {
		e.Error = fault.Text(err)
	}
	n.audited(e)
}

// session records that a browser has begun or ended a session. Nobody waits for that.
func (n *Node) session(who, from string, begun bool) {
	what := "logout"
	if begun {
		what = "login"
	}
	if n.audit != nil {
		n.audit.Note(audit.Entry{Who: who, Do: what, Detail: "from " + from})
	}
}

// mostStrangers is how many refusals a second are recorded; the others are counted.
const mostStrangers = 10

// refused records that somebody was not let in.
func (n *Node) refused(who string, err error) {
	if n.audit == nil {
		return
	}
	more, ok := n.strangers.Tell(time.Now())
	if !ok {
		return
	}
	detail := ""
	if more > 0 {
		detail = fmt.Sprintf("%d others before were not recorded one by one", more)
	}
	n.audit.Note(audit.Entry{Who: who, Do: "login refused", Detail: detail, Error: fault.Text(err)})
}
