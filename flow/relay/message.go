package relay

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pannier/pannier/flow/wire"
	"github.com/pannier/pannier/spec/fault"
)

// Kinds of the byte streams of relays.
const (
	KindConn   = "relay"        // one connection
	KindUDP    = "relay.udp"    // the datagrams of one accepting socket
	KindListen = "relay.listen" // asks the peer to listen, for as long as it is open
	KindData   = "relay.data"   // a data connection of FTP
)

// Limits of the fields of messages.
const (
	MaxName    = 64  // of a relay, bytes
	maxOrigin  = 128 // From and At, bytes
	maxAccepts = 64  // endpoints in one ask to listen
)

// connAsk is the meta of OPEN for KindConn and KindUDP.
type connAsk struct {
	Relay    string // its name, 1..MaxName bytes
	To       string // a destination with its port; "": the opened side's relay says it
	Port     uint16 // that was accepted at; 0: a unix socket
	From     string // address of the client, as the entry sees it
	Datagram uint16 // KindUDP: largest that the opener takes
	At       string // address it was accepted at, as the entry sees it; "": it has none
}

// connAnswer is the meta of ACCEPT that answers connAsk.
type connAnswer struct {
	Address  string // that was connected to
	Datagram uint16 // KindUDP: largest that the acceptor takes
	Control  uint64 // KindConn: it is a control connection of FTP, which dataAsk names so; 0: it is none
}

// dataAsk is the meta of OPEN for KindData. Either end opens it: the one that the data
// connection has come to.
type dataAsk struct {
	Relay   string
	Control uint64 // connAnswer.Control of the control connection that has announced it
	Active  bool   // the exit opens: the server has connected to it, the entry connects to the client
	Port    uint16 // as the opened end has read it on the control connection
	From    string // address of who has connected to the opener
}

// listenAsk is the meta of OPEN for KindListen.
type listenAsk struct {
	Relay  string
	Accept []string // endpoints to accept at, 1..maxAccepts
	Resume bool     // open the streams of connections with Resume
}

// listenAnswer is the meta of ACCEPT that answers listenAsk.
type listenAnswer struct {
	Bound []string // what is listened at, with the ports that were chosen for 0
}

func decodeMeta(b []byte, v interface{ check() error }) error {
	if err := wire.DecodeMeta(b, v); err != nil {
		return err
	}
	return v.check()
}

func checkText(field, s string, least, most int) error {
	if len(s) < least || len(s) > most || !utf8.ValidString(s) {
		return fault.New("decode meta", fault.Protocol, "%s has %d bytes; it is UTF-8 of %d to %d", fault.Shown(field), len(s), least, most)
	}
	return nil
}

func (o *connAsk) check() error {
	err := checkName(o.Relay)
	if err == nil {
		err = checkText("To", o.To, 0, MaxEndpoint)
	}
	if err == nil {
		err = checkOrigin("From", o.From)
	}
	if err == nil {
		err = checkOrigin("At", o.At)
	}
	return err
}

func checkOrigin(field, address string) error {
	err := checkText(field, address, 0, maxOrigin)
	if err == nil && strings.ContainsFunc(address, unicode.IsControl) {
		err = fault.New("decode meta", fault.Protocol, "%s has control characters", fault.Shown(field))
	}
	return err
}

func (o *dataAsk) check() error {
	if err := checkName(o.Relay); err != nil {
		return err
	}
	return checkOrigin("From", o.From)
}

func checkName(s string) error {
	if !validName(s) {
		return fault.New("decode meta", fault.Protocol, "Relay is no name of 1 to %d printable bytes", MaxName)
	}
	return nil
}

func (o *connAnswer) check() error { return checkText("Address", o.Address, 0, MaxEndpoint) }

func (l *listenAsk) check() error { return checkList("Accept", l.Accept, &l.Relay) }

func (l *listenAnswer) check() error { return checkList("Bound", l.Bound, nil) }

func checkList(field string, list []string, name *string) error {
	if name != nil {
		if err := checkName(*name); err != nil {
			return err
		}
	}
	if len(list) < 1 || len(list) > MaxPorts {
		return fault.New("decode meta", fault.Protocol, "%s has %d entries; at most %d", fault.Shown(field), len(list), MaxPorts)
	}
	for _, s := range list {
		if err := checkText(field, s, 1, MaxEndpoint); err != nil {
			return err
		}
	}
	return nil
}
