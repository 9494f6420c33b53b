package relay

import (
	"encoding/binary"
	"testing"
	"testing/synctest"

	"github.com/pannier/pannier/flow"
	"github.com/pannier/pannier/flow/wire"
)

// rawUDP opens a stream of datagrams on a session, as whoever writes the frames itself.
func rawUDP(t testing.TB, s *flow.Session, ask connAsk) *flow.ByteStream {
	t.Helper()
	ask.Datagram = MaxDatagram
	meta, err := wire.AppendMeta(nil, &ask)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.OpenBytes(t.Context(), flow.Open{Kind: KindUDP, Meta: meta})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// frameTo writes one frame of a raw stream.
func frameTo(t testing.TB, st *flow.ByteStream, s sort, source uint32, payload string) {
	t.Helper()
	b := binary.BigEndian.AppendUint32([]byte{byte(s)}, source)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(payload))), payload...)
	if _, err := st.Write(b); err != nil {
		t.Fatal(err)
	}
}

// TestUDPConsentRevoked: a stream of datagrams that is open does not keep what the policy has taken back, or put under
// other limits: sources that were let in go on, new ones have to be allowed.
func TestUDPConsentRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, allowAll("udp://10.0.0.5:53"), false)
		defer w.stop()
		w.udpRelay(nil)
		server := w.udpServer("10.0.0.5:53")
		one, two, three := w.udpClient(1), w.udpClient(2), w.udpClient(3)
		one.WriteTo([]byte("one"), udpAt)
		if got := waiting(server); len(got) != 1 {
			t.Fatalf("%q", got)
		}
		if err := w.east.SetPolicy(nil); err != nil {
			t.Fatal(err)
		}
		two.WriteTo([]byte("two"), udpAt)
		if got := waiting(server); len(got) > 0 {
			t.Errorf("%q of a source that nothing allows", got)
		}
		if got := w.eastLog.with("not relayed", "from=192.0.2.2:500", `kind="permission denied"`); len(got) != 1 {
			t.Errorf("%q", w.eastLog.lines())
		}
		one.WriteTo([]byte("one"), udpAt)
		if got := waiting(server); len(got) != 1 || string(got[0]) != "one" {
			t.Errorf("%q of the source that was let in", got)
		}
		if err := w.east.SetPolicy([]Allow{{Partner: "west", Relay: "*", Dial: []string{"udp://10.0.0.0/8:53"}, Limits: Limits{Conns: 1}}}); err != nil {
			t.Fatal(err)
		}
		two.WriteTo([]byte("two"), udpAt)
		three.WriteTo([]byte("three"), udpAt)
		if got := waiting(server); len(got) != 1 || string(got[0]) != "two" {
			t.Errorf("%q where one source is allowed", got)
		}
		if s := w.east.Stats()[0]; s.Open != 1 || s.Opened != 1 || s.Refused != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestUDPThereRemoved: a partner that goes on with the stream of a relay that is gone, or leads elsewhere now, has no new
// sources by it.
func TestUDPThereRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := join(t, Config{}, Config{Policy: []Allow{{Partner: "west", Relay: "*", Listen: []string{"udp://*:*"}}}}, false)
		defer w.stop()
		w.eastWorld, w.westWorld = w.westWorld, w.eastWorld // west is the exit
		server, other := w.udpServer("10.0.0.5:53"), w.udpServer("10.0.0.5:54")
		at := func(r *Relay) { r.At = There }
		w.udpRelay(at)
		st := rawUDP(t, w.far, connAsk{Relay: "r", Port: 9000})
		say := func(source uint32) {
			frameTo(t, st, newSource, source, "192.0.2.1:500")
			frameTo(t, st, datagram, source, "ask")
		}
		say(1)
		if got := waiting(server); len(got) != 1 {
			t.Fatalf("%q", got)
		}
		if err := w.west.Remove("r"); err != nil {
			t.Fatal(err)
		}
		say(2)
		if got := waiting(server); len(got) > 0 {
			t.Errorf("%q by a relay that is gone", got)
		}
		w.add("udp://127.0.0.1:9000", "udp://10.0.0.5:54", at)
		say(3)
		if a, b := waiting(server), waiting(other); len(a)+len(b) > 0 {
			t.Errorf("%q and %q by one that leads elsewhere", a, b)
		}
		frameTo(t, st, datagram, 1, "more")
		if got := waiting(server); len(got) != 1 {
			t.Errorf("%q of the source that was let in", got)
		}
	})
}
