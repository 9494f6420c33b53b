package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/pannier/pannier/spec/fault"
)

var update = flag.Bool("update", false, "write the hex of the valid vectors anew")

// vector is one entry of spec/vectors. Either Fields (valid) or Kind (refused)
// is there. Pointers, so that an empty one is written again as it was.
type vector struct {
	Name   string          `json:"name"`
	Type   string          `json:"type,omitempty"`
	Stream *uint32         `json:"stream,omitempty"`
	Number *uint32         `json:"number,omitempty"`
	Why    string          `json:"why,omitempty"`
	Hex    *string         `json:"hex,omitempty"`
	Body   *string         `json:"body,omitempty"`
	Fields json.RawMessage `json:"fields,omitempty"`
	Kind   string          `json:"kind,omitempty"`
}

type vectorFile struct {
	About   string   `json:"about"`
	Vectors []vector `json:"vectors"`
}

func vectorPath(name string) string {
	return filepath.Join("..", "..", "spec", "vectors", name+".json")
}

func loadVectors(t testing.TB, name string) vectorFile {
	t.Helper()
	b, err := os.ReadFile(vectorPath(name))
	if err != nil {
		t.Fatal(err)
	}
	var f vectorFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		t.Fatal(err)
	}
	for _, v := range f.Vectors {
		if (v.Fields == nil) == (v.Kind == "") {
			t.Fatalf("%s: %q has both or none of fields and kind", name, v.Name)
		}
	}
	return f
}

func storeVectors(t *testing.T, name string, f vectorFile) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(f); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorPath(name), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// vectorBytes reads hex in which blanks separate and "h*n" repeats.
func vectorBytes(t testing.TB, s string) []byte {
	t.Helper()
	var out []byte
	for part := range strings.FieldsSeq(s) {
		digits, times, repeated := strings.Cut(part, "*")
		n := 1
		if repeated {
			var err error
			if n, err = strconv.Atoi(times); err != nil {
				t.Fatal(err)
			}
		}
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Repeat(b, n)...)
	}
	return out
}

// messageOf is a new struct for the frames of a type.
func messageOf(t testing.TB, name string) Message {
	t.Helper()
	for _, m := range newMessages() {
		if m.frame().String() == name {
			return m
		}
	}
	t.Fatalf("no control struct travels in %q", name)
	return nil
}

func newMessages() []Message {
	return []Message{&Hello{}, &HelloAck{}, &Open{}, &Accept{}, &Reset{}, &End{}, &Verdict{}, &GoAway{}, &Close{}, &Resume{}}
}

// setFields fills v from JSON in which byte strings are hex. Fields and keys
// must match one to one.
func setFields(t testing.TB, v reflect.Value, raw json.RawMessage) {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	for _, f := range reflect.VisibleFields(v.Type()) {
		if f.Anonymous {
			continue
		}
		if r, ok := m[f.Name]; ok {
			setField(t, v.FieldByIndex(f.Index), r)
			delete(m, f.Name)
		}
	}
	for name := range m {
		t.Fatalf("%v has no field %s", v.Type(), name)
	}
}

func setField(t testing.TB, v reflect.Value, raw json.RawMessage) {
	t.Helper()
	elem := reflect.Invalid
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
		elem = v.Type().Elem().Kind()
	}
	var err error
	switch elem {
	case reflect.Uint8:
		var s string
		if err = json.Unmarshal(raw, &s); err == nil {
			setHex(t, v, s)
		}
	case reflect.Struct:
		var list []json.RawMessage
		err = json.Unmarshal(raw, &list)
		for _, r := range list {
			e := reflect.New(v.Type().Elem()).Elem()
			setFields(t, e, r)
			v.Set(reflect.Append(v, e))
		}
	default:
		err = json.Unmarshal(raw, v.Addr().Interface())
		if v.Kind() == reflect.Slice && v.Len() == 0 {
			v.SetZero()
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
}

func setHex(t testing.TB, v reflect.Value, s string) {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	if v.Kind() == reflect.Array {
		if reflect.Copy(v, reflect.ValueOf(b)) != v.Len() || len(b) != v.Len() {
			t.Fatalf("%d bytes for %v", len(b), v.Type())
		}
		return
	}
	if len(b) > 0 {
		v.SetBytes(b)
	}
}

// refused checks that err is what the vector expects, and that a violation is
// one of the session while damage is not.
func (v vector) refused(t *testing.T, err error) {
	t.Helper()
	e, ok := err.(*fault.Error)
	if !ok || e.Kind.String() != v.Kind || e.Session != (e.Kind == fault.Protocol) || e.Side != fault.Here {
		t.Fatalf("got %v; want %s", err, v.Kind)
	}
	t.Log(err)
}

// forVectors runs check for each vector of a file. check returns the hex that a
// valid vector should have.
func forVectors(t *testing.T, file string, check func(*testing.T, vector) []byte) {
	f := loadVectors(t, file)
	for i, v := range f.Vectors {
		t.Run(strings.TrimSpace(v.Type+" "+v.Name), func(t *testing.T) {
			got := check(t, v)
			if v.Kind != "" {
				return
			}
			if *update {
				*f.Vectors[i].Hex = hex.EncodeToString(got)
			} else if hex.EncodeToString(got) != *v.Hex {
				t.Errorf("encoded\n%x\nwant\n%s", got, *v.Hex)
			}
		})
	}
	if *update {
		storeVectors(t, file, f)
	}
}

func TestHeaderVectors(t *testing.T) {
	forVectors(t, "header", func(t *testing.T, v vector) []byte {
		if v.Kind != "" {
			_, err := ParseHeader(vectorBytes(t, *v.Hex))
			v.refused(t, err)
			return nil
		}
		var want Header
		setFields(t, reflect.ValueOf(&want).Elem(), v.Fields)
		b := make([]byte, HeaderSize)
		want.Put(b)
		if got, err := ParseHeader(b); err != nil || got != want {
			t.Errorf("parsed %+v, %v; want %+v", got, err, want)
		}
		return b
	})
}

func TestBlockVectors(t *testing.T) {
	forVectors(t, "block", func(t *testing.T, v vector) []byte {
		if v.Kind != "" {
			_, err := parseHead(t, vectorBytes(t, *v.Hex))
			v.refused(t, err)
			return nil
		}
		b := make([]byte, MaxHead)
		var want any
		switch v.Type {
		case "BLOCK":
			var h BlockHead
			setFields(t, reflect.ValueOf(&h).Elem(), v.Fields)
			b = b[:h.Put(b)]
			h.Type, h.Ext = TypeBlock, uint8(len(b)-HeaderSize)/8
			want = h
		case "DATA":
			var h DataHead
			setFields(t, reflect.ValueOf(&h).Elem(), v.Fields)
			b = b[:DataHeadSize]
			h.Put(b)
			h.Type, h.Ext = TypeData, 2
			want = h
		}
		if got, err := parseHead(t, b); err != nil || got != want {
			t.Errorf("parsed %+v, %v; want %+v", got, err, want)
		}
		return b
	})
}

// parseHead reads header and words of a frame with content.
func parseHead(t *testing.T, b []byte) (any, error) {
	t.Helper()
	h, err := ParseHeader(b)
	if err != nil {
		t.Fatalf("the header alone: %v", err)
	}
	if h.Type == TypeData {
		return ParseDataExt(h, b[HeaderSize:])
	}
	return ParseBlockExt(h, b[HeaderSize:])
}

func TestControlVectors(t *testing.T) {
	forVectors(t, "control", func(t *testing.T, v vector) []byte {
		want, got := messageOf(t, v.Type), messageOf(t, v.Type)
		setFields(t, reflect.ValueOf(want).Elem(), v.Fields)
		b, err := AppendControl(nil, want.frame(), *v.Stream, want)
		if err != nil {
			t.Fatal(err)
		}
		Seal(b, 0)
		h, err := ParseHeader(b)
		if err != nil || h.Type != want.frame() || h.Stream != *v.Stream || int(h.Length) != len(b)-HeaderSize {
			t.Fatalf("header %+v, %v", h, err)
		}
		if err := h.Verify(0, b[:HeaderSize], b[HeaderSize:]); err != nil {
			t.Error(err)
		}
		if err := Decode(b[HeaderSize:], got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("decoded %+v, %v; want %+v", got, err, want)
		}
		return b
	})
}

func TestHostileVectors(t *testing.T) {
	forVectors(t, "hostile", func(t *testing.T, v vector) []byte {
		body, m := vectorBytes(t, *v.Body), messageOf(t, v.Type)
		var err error
		if n := allocated(func() { err = Decode(body, m) }); n > allocBound {
			t.Errorf("refusing it allocated %d bytes", n)
		}
		v.refused(t, err)
		return nil
	})
}

// Every type of frame, and every control struct, has an example.
func TestVectorsCoverTheTable(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range loadVectors(t, "header").Vectors {
		if v.Fields != nil {
			seen[Type(vectorBytes(t, *v.Hex)[0]).String()] = true
		}
	}
	for i, r := range rules {
		if r.name != "" && !seen[r.name] {
			t.Errorf("no valid header of type %d %s", i, r.name)
		}
	}
	for _, file := range []string{"control", "hostile"} {
		seen := map[string]bool{}
		for _, v := range loadVectors(t, file).Vectors {
			seen[v.Type] = true
		}
		for _, m := range newMessages() {
			if !seen[m.frame().String()] {
				t.Errorf("%s: none for %v", file, m.frame())
			}
		}
	}
}
