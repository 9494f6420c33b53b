package admin

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/schedule"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
)

// Expecting is the files that are to come to a node; *schedule.Awaiter is one.
type Expecting interface {
	List() ([]schedule.Expectation, error) // late ones first
	// Acknowledge waits no longer for what is late; at zero, for all of it.
	Acknowledge(name, by string, due time.Time) error
}

// expectKind is what an expected file is among objects: adding and removing one is applying and
// deleting it.
const expectKind = "expect"

// mostExpected is how many there may be when one is added. A file of objects has its own limit.
const mostExpected = 10_000

// ListExpected implements adminpb.AdminServer.
func (s *Server) ListExpected(context.Context, *adminpb.ListExpectedRequest) (*adminpb.ListExpectedReply, error) {
	if s.cfg.Expecting == nil {
		return nil, unsupported("list expected files", "this node has none")
	}
	all, err := s.cfg.Expecting.List()
	reply := &adminpb.ListExpectedReply{}
	for i := range all {
		reply.Expected = append(reply.Expected, expectedOf(&all[i]))
	}
	return reply, err
}

// AddExpected implements adminpb.AdminServer.
func (s *Server) AddExpected(ctx context.Context, in *adminpb.AddExpectedRequest) (*adminpb.Expected, error) {
	const op = "add expected file"
	if s.cfg.Objects == nil || s.cfg.Expecting == nil {
		return nil, unsupported(op, "this node has no objects")
	}
	var b strings.Builder
	b.WriteString("[[" + expectKind + "]]\n")
	for _, f := range [][2]string{
		{"name", in.GetName()}, {"rule", in.GetRule()}, {"partner", in.GetPartner()}, {"file", in.GetFile()}, {"cron", in.GetCron()}, {"zone", in.GetZone()}, {"at", in.GetAt()}, {"expire", in.GetExpire()}, {"early", in.GetEarly()},
	} {
		if f[1] == "" {
			continue
		}
		text, err := tomlText(f[1])
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s = %s\n", f[0], text)
	}
	if err := stillToCome(in, time.Now()); err != nil {
		return nil, err
	}
	all, _, err := s.cfg.Objects.List()
	if err != nil {
		return nil, err
	}
	others := 0
	for _, o := range all {
		switch {
		case o.Kind != expectKind:
		case o.Name == in.GetName():
			return nil, fault.New(op, fault.Exists, "there is an expected file %q already", in.GetName())
		default:
			others++
		}
	}
	if others >= mostExpected {
		return nil, fault.New(op, fault.Overloaded, "%d files are expected, and that is how many may be: remove some (pannier expect remove NAME)", others)
	}
	is, err := s.cfg.Objects.Apply([]Text{{"the order", b.String()}}, access.CallerOf(ctx).Name, Object{Kind: expectKind, Name: in.GetName()}, NoRevision, false)
	if err != nil {
		return nil, err
	}
	m, err := s.expectedFile(in.GetName())
	if err != nil { // it was added, whatever has become of it since
		m = &adminpb.Expected{Name: in.GetName(), Rule: in.GetRule(), Partner: in.GetPartner(), File: in.GetFile(), Cron: in.GetCron(), Zone: in.GetZone(), Expire: in.GetExpire(), Early: in.GetEarly()}
	}
	m.Notes = is.Notes
	return m, nil
}

// stillToCome refuses a file that nobody would wait for: a wrong year is soon typed. What cannot
// be read is refused when it is applied.
func stillToCome(in *adminpb.AddExpectedRequest, now time.Time) error {
	zone, err := time.LoadLocation(cmp.Or(in.GetZone(), "Local"))
	if err != nil {
		return nil
	}
	at, err := schedule.ParseAt(in.GetAt(), zone)
	if err != nil {
		return nil
	}
	wait, err := quantity.ParseDuration(cmp.Or(in.GetExpire(), "1d"))
	if err == nil && at.Add(wait).Before(now) {
		return fault.New("add expected file", fault.Invalid, "at is %s, and %s after that it is not waited for any more, which is over: it would be missing at once", in.GetAt(), quantity.FormatDuration(wait))
	}
	return nil
}

// expectedFile is how one is doing.
func (s *Server) expectedFile(name string) (*adminpb.Expected, error) {
	list, err := s.cfg.Expecting.List()
	for i := range list {
		if list[i].Expected.Name == name {
			return expectedOf(&list[i]), nil
		}
	}
	if err == nil {
		err = fault.New("find expected file", fault.NotFound, "no file %q is expected any more", name)
	}
	return nil, err
}

// tomlText is a text as TOML has it, on one line.
func tomlText(s string) (string, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }) {
		return "", fault.New("read text", fault.Invalid, "%.60q has control characters", s)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`, nil
}

// RemoveExpected implements adminpb.AdminServer.
func (s *Server) RemoveExpected(_ context.Context, in *adminpb.RemoveExpectedRequest) (*adminpb.RemoveExpectedReply, error) {
	if s.cfg.Objects == nil {
		return nil, unsupported("remove expected file", "this node has no objects")
	}
	_, err := s.cfg.Objects.Delete(expectKind, in.GetName(), AnyRevision)
	return &adminpb.RemoveExpectedReply{}, err
}

// AcknowledgeExpected implements adminpb.AdminServer.
func (s *Server) AcknowledgeExpected(ctx context.Context, in *adminpb.AcknowledgeExpectedRequest) (*adminpb.Expected, error) {
	if s.cfg.Expecting == nil {
		return nil, unsupported("acknowledge expected file", "this node has none")
	}
	due, err := readTime("due", in.GetDue())
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Expecting.Acknowledge(in.GetName(), Who(ctx), due); err != nil {
		return nil, err
	}
	return s.expectedFile(in.GetName())
}

func expectedOf(x *schedule.Expectation) *adminpb.Expected {
	e := &x.Expected
	m := &adminpb.Expected{
		Name: e.Name, Rule: e.Rule, Partner: e.Partner, File: e.File, Expire: e.Expire.String(), Since: timeOf(x.Since), Next: timeOf(x.Next), State: string(x.State()),
	}
	if e.At.IsZero() {
		m.Cron, m.Zone = e.Times.Cron.String(), e.Times.ZoneName()
	}
	if e.Early > 0 {
		m.Early = e.Early.String()
	}
	for i := range x.Late {
		m.Late = append(m.Late, awaitsOf(&x.Late[i]))
	}
	for i := range x.Over {
		m.Over = append(m.Over, awaitsOf(&x.Over[i]))
	}
	return m
}

func awaitsOf(a *schedule.Awaits) *adminpb.ExpectedFile {
	m := &adminpb.ExpectedFile{Due: timeOf(a.Due), State: string(a.State), At: timeOf(a.At), By: a.By}
	if a.Request.Requester != "" {
		m.Request, m.Requester = a.Request.ID.String(), a.Request.Requester
	}
	return m
}
