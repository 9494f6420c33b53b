package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pannier/pannier/engine/node/nodetest"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/scorecard/disks"
	"github.com/pannier/pannier/spec/scorecard/score"
)

// hosts are two daemons, each in a network namespace of its own, joined by TLS over a wire that can
// be cut. Each of four tasks of a request leaves a line when it runs: one before and one after, at both ends.
type hosts struct {
	*conduit
	*country
}

const hostsRate = 16 << 20 // bytes a second of each request

// newHosts starts both; place, if there is one, says before that where hostb's state and files are.
func newHosts(t *testing.T, place func(b *nodetest.Node)) *hosts {
	w := newCountry(t)
	h := &hosts{conduit: newConduit(t), country: w}
	if place != nil {
		place(h.b)
		if err := h.b.Identify(); err != nil {
			t.Fatal(err)
		}
	}
	h.a.Address, h.b.Address = "tls://"+w.nearIP+":6610", "tls://"+w.farP+":6610"
	for _, n := range []*nodetest.Node{h.a, h.b} {
		task := func(list string) string {
			return fmt.Sprintf("[ { task = \"exec\", argv = ['/bin/sh', '-c', 'echo \"$0\" >> %s', '{id} %s'] } ]", h.ran(n), list)
		}
		rules := ""
		for rule, direction := range map[string]string{"push": "send", "pull": "receive"} {
			rules += fmt.Sprintf("\n[[rule]]\nname = %q\ndirection = %q\npartners = [\"*\"]\nroot = \"%%ROOT%%\"\ndigest = \"sha256\"\nretry = { attempts = 100, delay = \"1s\", factor = 1 }\npre = %s\npost = %s\n",
				rule, direction, task("pre"), task("post"))
		}
		other := h.a
		if n == h.a {
			other = h.b
		}
		if err := n.Write(nil, nil, rules, other); err != nil {
			t.Fatal(err)
		}
	}
	h.up(h.b)
	h.up(h.a)
	return h
}

// ran is where the tasks of a node leave their lines.
func (h *hosts) ran(n *nodetest.Node) string { return filepath.Join(n.Dir, "ran") }

// up starts a node where it belongs, with the mounts of this process: one of its own, as "ip netns exec" makes
// it, would keep a disk mounted that is mounted again here.
func (h *hosts) up(n *nodetest.Node) {
	h.conduit.t.Helper()
	in := h.near
	if n == h.b {
		in = h.far
	}
	if err := n.Start(h.conduit.t.Context(), systemProgram(h.conduit.t, "nsenter", "util-linux"), "--net=/run/netns/"+in); err != nil {
		h.conduit.t.Fatal(err)
	}
}

// moved is how many bytes have come over the wire, to either end.
func (h *hosts) moved() (n int64) {
	h.conduit.t.Helper()
	for name, dev := range map[string]string{h.near: h.nearIf, h.far: h.farIf} {
		text := runs(h.conduit.t, append(h.in(name), "cat", "/sys/class/net/"+dev+"/statistics/rx_bytes")...)
		v, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			h.conduit.t.Fatal(err)
		}
		n += v
	}
	return n
}

// voyage is a file on its way.
type voyage struct {
	id       string
	from, to string // the file at either end
	digest   [32]byte
	size     int64
}

// send has hosta ask for a file of that size, which goes there by a rule.
func (h *hosts) send(rule, name string, size int) voyage {
	h.conduit.t.Helper()
	t := h.conduit.t
	from, to := h.a, h.b
	if rule == "pull" {
		from, to = h.b, h.a
	}
	v := voyage{from: filepath.Join(from.Root, name), to: filepath.Join(to.Root, "in-"+name), size: int64(size)}
	v.digest = put(t, v.from, size)
	at, err := h.a.Client()
	if err != nil {
		t.Fatal(err)
	}
	reply, err := at.Submit(t.Context(), &adminpb.SubmitRequest{Partner: "hostb", Rule: rule, Source: name, Target: "in-" + name, Bandwidth: hostsRate})
	if err != nil {
		t.Fatal(err)
	}
	v.id = reply.Request.Id
	return v
}

// received is how many bytes of it the receiver has, by the word of hosta.
func (h *hosts) received(v voyage) int64 {
	r := h.at(h.a, v)
	return max(r.GetDurable(), r.GetLive().GetReceived())
}

// arrives waits until both ends have it DONE, and looks at all that they say and have.
func (h *hosts) arrives(v voyage) {
	t := h.conduit.t
	t.Helper()
	for _, n := range []*nodetest.Node{h.a, h.b} {
		client, err := n.Client()
		if err != nil {
			t.Fatal(err)
		}
		ref := &adminpb.Ref{Id: v.id}
		var r *adminpb.Request
		h.until(n.Name+" has ended "+v.id, func() bool {
			r, err = client.Get(t.Context(), ref)
			return err == nil && (r.State == adminpb.Request_DONE || r.State == adminpb.Request_INERROR)
		})
		unknown := r.Side == adminpb.Request_SENDER && r.Digest == "" // the process that has sent the last byte died before it wrote that down
		if r.State != adminpb.Request_DONE || r.Size != v.size || r.Digest != fmt.Sprintf("sha256:%x", v.digest) && !unknown {
			t.Errorf("%s: %v, %d bytes of %d, %s, %v", n.Name, r.State, r.Size, v.size, r.Digest, r.Failure)
		}
		reply, err := client.Events(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		h.ranOnce(n, v.id, reply.Events)
	}
	if is := digestOf(t, v.to); is != v.digest {
		t.Errorf("%s has another content than %s", v.to, v.from)
	}
}

// ranOnce: each task has ended once by the record, and after that it was not run again; one that ran
// more often had begun as often, because the process had died before its end was recorded.
func (h *hosts) ranOnce(n *nodetest.Node, id string, events []*adminpb.Event) {
	t := h.conduit.t
	t.Helper()
	lists, began, ended := []string{"pre", "post"}, [2]int{}, [2]int{}
	for _, e := range events {
		for _, word := range strings.Split(e.GetEvent(), "+") {
			at := min(ended[0], 1) // post tasks come after pre tasks
			switch word {
			case "BeginTask":
				began[at]++
			case "EndTask":
				ended[at]++
			}
		}
	}
	text, err := os.ReadFile(h.ran(n))
	if err != nil {
		t.Fatal(err)
	}
	for i, list := range lists {
		ran := strings.Count(string(text), id+" "+list+"\n")
		if ended[i] != 1 || ran < 1 || ran > began[i] {
			t.Errorf("%s: the %s task has begun %d times and ended %d times by the record, and ran %d times", n.Name, list, began[i], ended[i], ran)
		}
	}
}

// TestTwoHosts: two daemons on two hosts, as far as the network is concerned, joined by TLS. While a
// file is on its way the wire is cut, until an end has given the other up, and mended; while others are,
// either end is killed, at any point. Each file arrives, with one verdict at both ends; no task that was
// recorded runs again; and what comes over the wire once more is bounded by what was not durable yet.
func TestTwoHosts(t *testing.T) {
	h := newHosts(t, nil)
	before, whole := h.moved(), int64(0)
	v := h.send("push", "big", 64<<20)
	whole += v.size
	h.until("bytes of it are on the way", func() bool { return h.received(v) > 16<<20 })
	h.wire("down")
	h.until("hosta has given the connections up", func() bool { // which an error of the network makes sooner than silence
		said := h.logA.String()
		return strings.Contains(said, "session lost its connections") || strings.Contains(said, "session over")
	})
	if got := h.received(v); got >= v.size {
		t.Errorf("all has come over a wire that was cut")
	}
	h.wire("up")
	h.arrives(v)

	r := rand.New(rand.NewPCG(score.Seed(), 8))
	kills := 0
	for i := range 3 {
		rule := []string{"push", "pull"}[i%2]
		v := h.send(rule, fmt.Sprint("x", i), 16<<20)
		whole += v.size
		for _, n := range []*nodetest.Node{h.a, h.b} {
			wait := time.Duration(r.Int64N(int64(900 * time.Millisecond)))
			time.Sleep(wait)
			n.Kill()
			kills++
			h.up(n)
		}
		h.arrives(v)
	}

	// A second's bytes wait to be durable, what comes in while that is done, and what is in windows and buffers.
	moved, most := h.moved()-before, whole+int64(kills+1)*(2*hostsRate)
	t.Logf("%d MiB came over the wire for %d MiB, after a cut and %d kills", moved>>20, whole>>20, kills)
	if moved > most*105/100 {
		t.Errorf("%d bytes came over the wire for %d, after a cut and %d kills", moved, whole, kills)
	}
}

// wentOn is what a node logs when bytes of a request have moved: its id, and where they began.
var wentOn = regexp.MustCompile(`bytes have moved.* id=([0-9a-f]+) .* from=(\d+) `)

// TestTwoHostsDisk: hostb of the same two has its store and its files on a disk of its own. Its power is cut
// while files are on their way to it and from it: what was told to be safe is on it, what remains is moved,
// and both ends say the same. Then the disk is full: the request waits, says why, and is DONE when there is room.
func TestTwoHostsDisk(t *testing.T) {
	dir := t.TempDir()
	disk, err := disks.New(t.Context(), dir, "ext4")
	if fault.KindOf(err) == fault.Unsupported {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the nodes have ended
		if err := disk.Remove(); err != nil {
			t.Error(err)
		}
	})
	h := newHosts(t, func(b *nodetest.Node) {
		b.State, b.Root = filepath.Join(disk.At, "state"), filepath.Join(disk.At, "files")
	})
	r := rand.New(rand.NewPCG(score.Seed(), 9))
	for i := range 4 {
		rule := []string{"push", "pull"}[i%2]
		v := h.send(rule, fmt.Sprint("x", i), 40<<20)
		if rule == "pull" { // hostb's file is somebody else's work, and on the disk before
			if err := disk.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		var told int64
		h.until("bytes are safe", func() bool { told = h.durable(v); return told > 0 })
		time.Sleep(time.Duration(r.Int64N(int64(500 * time.Millisecond))))
		told = h.durable(v)
		if err := h.b.Freeze(); err != nil {
			t.Fatal(err)
		}
		if err := disk.Cut(); err != nil {
			t.Fatal(err)
		}
		h.b.Kill()
		said := len(h.logB.String())
		if err := disk.Again(); err != nil {
			t.Fatal(err)
		}
		h.up(h.b)
		h.arrives(v)
		if rule == "push" { // a request that was DONE before is looked at by arrives
			from := told
			for _, went := range wentOn.FindAllStringSubmatch(h.logB.String()[said:], -1) {
				if went[1] == v.id {
					from, _ = strconv.ParseInt(went[2], 10, 64)
				}
			}
			if from < told {
				t.Errorf("hosta was told that %d bytes are safe, and hostb went on at %d after its power was cut", told, from)
			}
		}
	}

	const size = 24 << 20
	ballast := filepath.Join(disk.At, "ballast")
	room := freeOf(t, disk.At) - size/2
	put(t, ballast, int(room))
	v := h.send("push", "large", size)
	h.until("hosta says that there is no room", func() bool {
		r := h.at(h.a, v)
		return r.GetState() == adminpb.Request_INTERRUPTED && strings.Contains(r.GetFailure().GetCause(), "no space left")
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	h.arrives(v)
}

// at is what a node says of a file on its way.
func (h *hosts) at(n *nodetest.Node, v voyage) *adminpb.Request {
	h.conduit.t.Helper()
	client, err := n.Client()
	if err != nil {
		h.conduit.t.Fatal(err)
	}
	r, err := client.Get(h.conduit.t.Context(), &adminpb.Ref{Id: v.id})
	if err != nil {
		h.conduit.t.Fatal(err)
	}
	return r
}

// durable is how many bytes of it are safe at the receiver, by the word of hosta.
func (h *hosts) durable(v voyage) int64 { return h.at(h.a, v).GetDurable() }

// freeOf is how many bytes are free on a file system, for root, too.
func freeOf(t *testing.T, at string) int64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(at, &fs); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Bfree) * fs.Bsize
}
