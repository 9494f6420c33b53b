package wire

import "strconv"

// Type says what a frame is. The set is closed within a Version: an unknown
// type ends the session. The names carry the prefix because the plain ones are
// the structs that travel in the frames.
type Type uint8

// The numbers are part of the protocol and are never reused.
const (
	TypeHello    Type = 1  // session: Hello, first frame of every connection after the Preface
	TypeHelloAck Type = 2  // session: HelloAck, its answer
	TypeOpen     Type = 3  // stream: Open
	TypeAccept   Type = 4  // stream: Accept, the answer to Open
	TypeData     Type = 5  // stream: bytes of a byte stream, see DataHead
	TypeBlock    Type = 6  // stream: one block of a block stream, see BlockHead
	TypeCredit   Type = 7  // stream: granted u64, received u64
	TypeReset    Type = 8  // stream: Reset
	TypeDurable  Type = 9  // stream: durable u64
	TypeEnd      Type = 10 // stream: End
	TypeVerdict  Type = 11 // stream: Verdict, the answer to End
	TypePing     Type = 12 // session: nonce u64
	TypePong     Type = 13 // session: the nonce of a PING
	TypePipeAck  Type = 14 // session: bytes taken off this lane u64
	TypeGoAway   Type = 15 // session: GoAway
	TypeClose    Type = 16 // session: Close
	TypeResume   Type = 17 // session: Resume
	TypeLanes    Type = 18 // session: bulk lanes wanted u64
)

// rule is what frames of one type look like.
type rule struct {
	name     string
	stream   bool   // true: stream != 0; false: stream == 0
	words    uint8  // extension words, the second a digest of the payload; one more when compressed
	flags    Flags  // the bits it may have
	min, max uint32 // payload bytes, min <= length <= max <= MaxFrame
}

// rules is the one table of types. Types 0 and beyond it are unknown.
var rules = [...]rule{
	TypeHello:    {name: "HELLO", min: 1, max: MaxHello},
	TypeHelloAck: {name: "HELLO_ACK", min: 1, max: MaxHello},
	TypeOpen:     {name: "OPEN", stream: true, min: 1, max: MaxControl},
	TypeAccept:   {name: "ACCEPT", stream: true, min: 1, max: MaxControl},
	TypeData:     {name: "DATA", stream: true, words: 2, flags: Fin | Ask, min: 0, max: MaxData},
	TypeBlock:    {name: "BLOCK", stream: true, words: 2, flags: Zstd | S2 | Ask, min: 1, max: MaxFrame},
	TypeCredit:   {name: "CREDIT", stream: true, min: 16, max: 16},
	TypeReset:    {name: "RESET", stream: true, min: 1, max: MaxControl},
	TypeDurable:  {name: "DURABLE", stream: true, min: 8, max: 8},
	TypeEnd:      {name: "END", stream: true, min: 1, max: MaxControl},
	TypeVerdict:  {name: "VERDICT", stream: true, min: 1, max: MaxControl},
	TypePing:     {name: "PING", min: 8, max: 8},
	TypePong:     {name: "PONG", min: 8, max: 8},
	TypePipeAck:  {name: "PIPEACK", min: 8, max: 8},
	TypeGoAway:   {name: "GOAWAY", min: 1, max: MaxControl},
	TypeClose:    {name: "CLOSE", min: 1, max: MaxControl},
	TypeResume:   {name: "RESUME", min: 1, max: MaxControl},
	TypeLanes:    {name: "LANES", min: 8, max: 8},
}

// rule is nil for a type this version does not know.
func (t Type) rule() *rule {
	if int(t) >= len(rules) || rules[t].name == "" {
		return nil
	}
	return &rules[t]
}

// digested reports whether frames of the type have a digest of their payload,
// which the check then leaves out.
func (t Type) digested() bool { r := t.rule(); return r != nil && r.words > 0 }

// ext is how many extension words a frame with these flags has.
func (r *rule) ext(f Flags) uint8 {
	if f&compressed != 0 {
		return r.words + 1
	}
	return r.words
}

// String is the name in capitals, as spec/flow.md has it.
func (t Type) String() string {
	if r := t.rule(); r != nil {
		return r.name
	}
	return "TYPE " + strconv.Itoa(int(t))
}
