package carrier

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// childEnv says what this test binary does as a child; see child.
const childEnv = "PANNIER_CARRIER_CHILD"

// child is the life of a child: "relay PATH" joins stdin and stdout with a
// unix socket, "stdio DIR KEY" serves lanes of that key over them, echoing, "dialtwice" dials
// over them twice and says what came of it.
func child(what string) int {
	verb, arg, _ := strings.Cut(what, " ")
	var err error
	switch verb {
	case "relay":
		err = relayChild(arg)
	case "stdio":
		err = stdioChild(arg)
	case "dialtwice":
		err = dialTwice()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	return 0
}

func relayChild(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(c, os.Stdin)
		_ = c.(*net.UnixConn).CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, c)
	return err
}

func dialTwice() error {
	d, err := NewDialer(plainly+"stdio:", Options{})
	if err != nil {
		return err
	}
	for range 2 {
		_, err := d.Dial(context.Background())
		fmt.Fprintln(os.Stderr, err)
	}
	return nil
}

func stdioChild(arg string) error {
	dir, key, _ := strings.Cut(arg, " ")
	o := Options{Protocols: []string{ProtocolLane}, ExposePlaintext: true}
	address := plainly + "stdio:"
	if key != "" {
		id, err := LoadOrCreateIdentity(dir)
		if err != nil {
			return err
		}
		o.Identity, o.Pins, address = id, Pins{key}, "stdio:"
	}
	l, err := Listen(address, o)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "ready")
	err = l.Serve(func(c net.Conn) {
		fmt.Println("this is not for the peer")
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}, nil)
	_ = l.Close()
	return err
}

// childAddress is the address of this test binary as a child.
func childAddress(what string) string {
	return ExecAddress("env", childEnv+"="+what, os.Args[0])
}
