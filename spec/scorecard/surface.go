package main

import (
	"bytes"
	"context"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/pannier/pannier/flow/carrier"
	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/rpc"
	"github.com/pannier/pannier/spec/fault"
)

var surface = check{
	id: 31, title: "every frame type in every place, every method of a server, of partners and of operators, in gRPC and HTTP, and every route of a node, with no key or token, a wrong one and a path without a slash: refused unless the tables say otherwise; a frame type without a row fails",
	unit: "endpoints open", n: counts{reduced: 1, full: 1},
	mutant:  "methods of ordinary gRPC clients need no certificate; any key is a partner's; one method of the operators' needs no token; one route does not",
	several: []string{"anonymous", "partners", "method", "route"},
	edits: []edit{
		{"rpc/listen.go", "	case s.cfg.AnonymousHTTP2 && s.cfg.ClientCAs != nil:\n", "	case mutant(\"31 anonymous\"):\n		s.cfg.AnonymousHTTP2 = true\n	}\n	switch {\n	case s.cfg.AnonymousHTTP2 && s.cfg.ClientCAs != nil:\n"},
		{"engine/peer/server.go", "	if name, ok := s.book.Load().owners[key]; ok {\n", "	for name := range s.book.Load().Partners {\n		if mutant(\"31 partners\") {\n			return name, nil\n		}\n	}\n	if name, ok := s.book.Load().owners[key]; ok {\n"},
		{"engine/httpd/httpd.go", "		if err := caller.Check(access.Any); err != nil { // or nobody", "		if err := caller.Check(access.Any); err != nil && !mutant(\"31 method\") { // or nobody"},
		{"engine/admin/scope.go", "	if err := caller.Check(scopes[method]); err != nil {\n", "	if err := caller.Check(scopes[method]); err != nil && !(mutant(\"31 method\") && method == adminpb.Admin_ListPools_FullMethodName) {\n"},
		{"engine/httpd/httpd.go", "	s.mux.Handle(pattern, mounted{h, scope})\n", "	if mutant(\"31 route\") && pattern == \"GET /metrics\" {\n		scope = access.Public\n	}\n	s.mux.Handle(pattern, mounted{h, scope})\n"},
	},
	run: runSurface,
}

// unimplemented is gRPC's status for what a server does not know.
const unimplemented = "12"

// place is where a frame may arrive.
type place int

const (
	atFirst   place = iota // of a connection
	onControl              // lane, no stream being open
	onBulk                 // lane
	places
)

func (p place) String() string {
	return [...]string{"first on a connection", "on a control lane", "on a bulk lane"}[p]
}

// frameRule is one frame type: what a correct one looks like, and where it may
// be sent by a connector that has no stream.
type frameRule struct {
	frame []byte
	may   [places]bool
}

// frameRules has a row for every type there is.
func frameRules() map[wire.Type]frameRule {
	no, lane, both := [places]bool{}, [places]bool{onControl: true}, [places]bool{onControl: true, onBulk: true}
	ctl := controlFrame
	return map[wire.Type]frameRule{
		wire.TypeHello:    {ctl(wire.TypeHello, 0, helloOf(wire.Control)), [places]bool{atFirst: true}},
		wire.TypeHelloAck: {ctl(wire.TypeHelloAck, 0, wire.HelloAck{Version: wire.Version}), no},
		wire.TypeOpen:     {ctl(wire.TypeOpen, 1, wire.Open{Kind: "x"}), lane},
		wire.TypeAccept:   {ctl(wire.TypeAccept, 2, wire.Accept{}), no},
		wire.TypeData:     {dataFrame(1, []byte("x")), no},
		wire.TypeBlock:    {blockFrame(1, 0, []byte("x")), no},
		wire.TypeCredit:   {wire.AppendCredit(nil, 1, 1, 0), no},
		wire.TypeReset:    {ctl(wire.TypeReset, 1, wire.Reset{}), no},
		wire.TypeDurable:  {wire.AppendDurable(nil, 1, 0), no},
		wire.TypeEnd:      {ctl(wire.TypeEnd, 1, wire.End{}), no},
		wire.TypeVerdict:  {ctl(wire.TypeVerdict, 2, wire.Verdict{}), no},
		wire.TypePing:     {wire.AppendPing(nil, 1), both},
		wire.TypePong:     {wire.AppendPong(nil, 1), both},
		wire.TypePipeAck:  {wire.AppendPipeAck(nil, 0), both},
		wire.TypeGoAway:   {ctl(wire.TypeGoAway, 0, wire.GoAway{}), lane},
		wire.TypeClose:    {ctl(wire.TypeClose, 0, wire.Close{}), no}, // ends the session, which is its meaning
		wire.TypeResume:   {ctl(wire.TypeResume, 0, wire.Resume{Epoch: 1}), no},
		wire.TypeLanes:    {wire.AppendLanes(nil, 1), lane},
	}
}

// blockFrame is a BLOCK frame of one uncompressed block; its digest is wrong.
func blockFrame(stream uint32, off uint64, p []byte) []byte {
	h := wire.BlockHead{Header: wire.Header{Class: wire.ClassBulk, Stream: stream, Length: uint32(len(p))}, Offset: off}
	f := make([]byte, h.Size(), h.Size()+len(p))
	h.Put(f)
	return append(f, p...)
}

// dataFrame is a DATA frame at offset 0; its digest is wrong.
func dataFrame(stream uint32, p []byte) []byte {
	h := wire.DataHead{Header: wire.Header{Class: wire.ClassRelay, Stream: stream, Length: uint32(len(p))}}
	f := make([]byte, wire.DataHeadSize, wire.DataHeadSize+len(p))
	h.Put(f)
	return append(f, p...)
}

// surfaceRun counts what was tried and what was open.
type surfaceRun struct {
	server             *running
	full               bool
	types, tried, open int
	note               note
}

func runSurface(ctx context.Context, j *job) (result, error) {
	id, err1 := carrier.NewIdentity()
	good, err2 := carrier.NewIdentity()
	other, err3 := carrier.NewIdentity()
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return result{}, err
		}
	}
	nothing := func(context.Context, string) error { return nil }
	s, err := serving(rpc.ServerConfig{Identity: id, Pins: carrier.Pins{good.Key()}}, "tls://127.0.0.1:0", nothing)
	if err != nil {
		return result{}, err
	}
	defer s.stop()
	r := &surfaceRun{server: s, full: j.full}
	if err := r.frames(ctx, good); err != nil {
		return result{}, err
	}
	methods := r.methods(ctx, good, other)
	e, err := r.endpoints(ctx, j.dir, good, other)
	if err != nil {
		return result{}, err
	}
	return r.note.result(float64(r.open), "%d tried: %d frame types in %d places, %d methods of a server, %d of a node, %d routes", r.tried, r.types, places, methods, e.methods, e.routes), nil
}

// frames sends every type, known or not, to every place.
func (r *surfaceRun) frames(ctx context.Context, good *carrier.Identity) error {
	rules := frameRules()
	for n := range 256 {
		if n > 32 && n < 250 && !r.full {
			continue // unknown to header parsing, like their neighbours
		}
		t := wire.Type(n)
		r.types++
		rule, ruled := rules[t]
		known := !strings.HasPrefix(t.String(), "TYPE ")
		if known != ruled {
			r.note.add("%v has no row in the table of this check, or is no type any more", t)
		}
		if !known {
			rule.frame = frame(wire.Header{Type: t}, nil)
		}
		for p := range places {
			r.tried++
			alive, err := r.survives(ctx, good, p, t, rule.frame)
			if err != nil {
				return err
			}
			if alive && !rule.may[p] {
				r.open++
			}
			if alive != rule.may[p] {
				r.note.add("%v %v: allowed %v", t, p, alive)
			}
		}
	}
	return nil
}

// survives sends a frame to a place and reports whether the connection lives on.
func (r *surfaceRun) survives(ctx context.Context, good *carrier.Identity, p place, t wire.Type, f []byte) (bool, error) {
	dial := func() (net.Conn, error) {
		return rawDial(ctx, r.server.address, nil, clientTLS(good, carrier.ProtocolLane))
	}
	c, err := dial()
	if err != nil {
		return false, fault.Wrap("dial", "", err)
	}
	defer c.Close()
	if p == atFirst {
		_ = c.SetDeadline(time.Now().Add(rawTimeout))
		wire.Seal(f, 0)
		if _, err := c.Write(append(wire.Preface[:len(wire.Preface):len(wire.Preface)], f...)); err != nil {
			return false, nil
		}
		_, ack, err := readAck(c)
		return err == nil && ack.Kind == 0, nil
	}
	lane, err := greet(c, helloOf(wire.Control))
	if err != nil {
		return false, fault.Wrap("greet", "", err)
	}
	if p == onBulk {
		b, err := dial()
		if err != nil {
			return false, fault.Wrap("dial", "", err)
		}
		defer b.Close()
		if !lane.alive(1) { // and so attached
			return false, fault.New("greet", fault.Lost, "the session has ended at once")
		}
		h := helloOf(wire.Bulk)
		h.Session, h.Token = lane.ack.Session, lane.ack.Token
		if lane, err = greet(b, h); err != nil {
			return false, fault.Wrap("greet", "", err)
		}
	}
	lane.send(f)
	return lane.alive(uint64(t) + 1000), nil
}

// methods calls every method there is, in every way that is not allowed, and
// in the one that is.
func (r *surfaceRun) methods(ctx context.Context, good, other *carrier.Identity) (n int) {
	for service, info := range r.server.GetServiceInfo() {
		for _, m := range info.Methods {
			n++
			path := service + "/" + m.Name
			for _, c := range []struct {
				who  string
				key  *carrier.Identity
				path string
				may  bool
			}{
				{"nobody", nil, "/" + path, false}, {"another key", other, "/" + path, false},
				{"nobody, no slash", nil, path, false}, {"another key, no slash", other, path, false},
				{"the right key, no slash", good, path, false}, {"the right key", good, "/" + path, true},
			} {
				status, answered := called(ctx, r.server.address, c.key, c.path)
				r.may(c.path, c.who, answered && status != unimplemented, c.may)
			}
		}
	}
	return n
}

// called calls a method of a server at an address and is its status, empty if there is an answer before that; or
// there is no answer.
func called(ctx context.Context, address string, key *carrier.Identity, path string) (_ string, answered bool) {
	c, err := rawDial(ctx, address, nil, clientTLS(key, carrier.ProtocolHTTP2))
	if err != nil {
		return "", false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(rawTimeout))
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = f.WriteSettings()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(path), EndHeaders: true})
	_ = f.WriteData(1, true, make([]byte, 5)) // one empty message
	if _, err := c.Write(b.Bytes()); err != nil {
		return "", false
	}
	for {
		got, err := f.ReadFrame()
		if err != nil {
			return "", false
		}
		h, ok := got.(*http2.MetaHeadersFrame)
		if ok && h.StreamID == 1 {
			status, http := "", ""
			for _, field := range h.Fields {
				switch field.Name {
				case "grpc-status":
					status = field.Value
				case ":status":
					http = field.Value
				}
			}
			if status != "" || http != "200" {
				return status, http != "400"
			}
			return "", true // headers of a reply before its end
		}
		if r, ok := got.(*http2.RSTStreamFrame); ok && r.StreamID == 1 {
			return "", false
		}
		if _, ok := got.(*http2.GoAwayFrame); ok {
			return "", false
		}
	}
}
