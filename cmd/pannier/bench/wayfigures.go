package bench

import (
	"context"
	"time"
)

// Figures of ways.
const (
	figureBulk      = "bulk"
	figurePing      = "ping"
	figureIdle      = "idle"
	figureChurn     = "churn"
	figureBusy      = "busy"
	figureFlood     = "flood"
	figureDatagrams = "datagrams"
)

// Loads that are the same in every run.
const (
	churnRate    = 1000 // connections a second
	busyConns    = 100
	busyRate     = 64     // pieces of 16 KiB a second, of each: 1 MiB/s
	datagramRate = 50_000 // a second
)

// arriveTime is until the last datagrams have arrived.
const arriveTime = 300 * time.Millisecond

// figure is one thing that is measured of ways.
type figure struct {
	name    string
	has     func(way) bool // why not is in without
	without string
	measure func(context.Context, RelayConfig, *wayRun, *RelayResult) error
}

func figuresOfWays() []figure {
	all := func(way) bool { return true }
	return []figure{
		{figureBulk, all, "", measureBulk},
		{figurePing, all, "", measurePing},
		{figureIdle, func(w way) bool { return w.entry != nil && !w.each && w.name != "bare" }, "it has no ends, or a process or six descriptors for each connection", measureIdle},
		{figureChurn, all, "", measureChurn},
		{figureBusy, all, "", measureBusy},
		{figureFlood, all, "", measureFlood},
		{figureDatagrams, func(w way) bool { return w.datagrams }, "it carries no datagrams", measureDatagrams},
	}
}

// Figures are the names of all that is measured of ways.
func Figures() []string {
	var names []string
	for _, f := range figuresOfWays() {
		names = append(names, f.name)
	}
	return names
}

// measureBulk is one connection in one direction.
func measureBulk(_ context.Context, _ RelayConfig, r *wayRun, out *RelayResult) error {
	m, cpu, err := r.measure(order{Verb: verbBulk})
	if err != nil {
		return err
	}
	gibs := float64(m.Bytes) / gib
	out.Rate, out.CPU = gibs/m.Seconds, cpu/gibs
	return nil
}

func measurePing(_ context.Context, cfg RelayConfig, r *wayRun, out *RelayResult) error {
	if _, err := r.client.ask(order{Verb: verbPing, Count: warmUp(cfg.Calls)}); err != nil {
		return err
	}
	m, cpu, err := r.measure(order{Verb: verbPing, Count: cfg.Calls})
	out.P50, out.P99, out.PingCPU = m.Latency.P50, m.Latency.P99, cpu*1e6/float64(max(1, m.Latency.Count))
	return err
}

// measureIdle is the memory of both ends while connections are open that were used once.
func measureIdle(ctx context.Context, cfg RelayConfig, r *wayRun, out *RelayResult) error {
	m, err := r.client.ask(order{Verb: verbIdle, Count: cfg.Idle})
	if err != nil {
		return err
	}
	if err := pause(ctx, cfg.Rest); err != nil {
		return err
	}
	entry, err := r.entry.usage()
	if err != nil {
		return err
	}
	exit, err := r.exit.usage()
	if err != nil {
		return err
	}
	out.IdleConns, out.IdleEntry, out.IdleExit = int(m.Counts.Arrived), float64(entry.RSS)/mib, float64(exit.RSS)/mib
	_, err = r.client.ask(order{Verb: verbIdle})
	return err
}

// measureChurn opens and closes connections by the clock.
func measureChurn(_ context.Context, cfg RelayConfig, r *wayRun, out *RelayResult) error {
	m, cpu, err := r.measure(order{Verb: verbChurn, Count: cfg.Churn, PerSecond: churnRate})
	if err != nil {
		return err
	}
	out.Opened, out.ChurnP99, out.Lost = float64(m.Counts.Arrived)/m.Seconds, m.Latency.P99, m.Counts.Lost
	out.ChurnCPU = cpu * 1e6 / float64(cfg.Churn)
	return nil
}

// measureBusy is the ping of one connection alone, and while a transfer that takes what it
// gets and cfg.Busy others with 1 MiB/s each share the session.
func measureBusy(ctx context.Context, cfg RelayConfig, r *wayRun, out *RelayResult) error {
	alone, err := r.client.ask(order{Verb: verbPing, Count: cfg.Calls})
	if err != nil {
		return err
	}
	busy, err := besides(ctx, cfg, r, busyRate, &out.BusyRate, &out.TransferRate)
	out.AloneP99, out.BusyP50, out.BusyP99 = alone.Latency.P99, busy.P50, busy.P99
	return err
}

// measureFlood is measureBusy with others that send all they can.
func measureFlood(ctx context.Context, cfg RelayConfig, r *wayRun, out *RelayResult) error {
	busy, err := besides(ctx, cfg, r, 0, &out.FloodRate, new(float64))
	out.FloodP50, out.FloodP99 = busy.P50, busy.P99
	return err
}

// besides times pings beside busy connections and a transfer; where there are no
// transfers, a connection that sends all it can is in its place. The rates are in GiB/s.
func besides(ctx context.Context, cfg RelayConfig, r *wayRun, perSecond int, busyRate, transferRate *float64) (Latency, error) {
	var none Latency
	load := r.client
	begin, end := order{Verb: verbBusy, Count: 1}, order{Verb: verbBusy}
	if r.way.transfers {
		load, begin.Verb, end.Verb = r.entry, verbTransfer, verbTransfer
	}
	began := time.Now()
	if _, err := load.ask(begin); err != nil {
		return none, err
	}
	if _, err := r.client.ask(order{Verb: verbBusy, Count: cfg.Busy, PerSecond: perSecond}); err != nil {
		return none, err
	}
	if err := pause(ctx, cfg.Settle); err != nil {
		return none, err
	}
	busy, err := r.client.ask(order{Verb: verbPing, Count: max(1, cfg.Calls/5)})
	if err != nil {
		return none, err
	}
	took := time.Since(began).Seconds()
	sent, err := r.client.ask(order{Verb: verbBusy})
	if err != nil {
		return none, err
	}
	*busyRate = float64(sent.Bytes) / gib / took
	if r.way.transfers {
		moved, err := load.ask(end)
		if err != nil {
			return none, err
		}
		*transferRate = float64(moved.Bytes) / gib / took
	}
	return *busy.Latency, nil
}

// measureDatagrams counts what arrives; of the rest, what the ends have dropped is
// theirs, and the kernel's what remains.
func measureDatagrams(ctx context.Context, cfg RelayConfig, r *wayRun, out *RelayResult) error {
	m, cpu, err := r.measure(order{Verb: verbDatagrams, Count: cfg.Datagrams, PerSecond: datagramRate})
	if err != nil {
		return err
	}
	if err := pause(ctx, arriveTime); err != nil {
		return err
	}
	came, err := counted(r.server, verbDatagrams)
	if err != nil {
		return err
	}
	out.Datagrams, out.DatagramCPU = float64(m.Counts.Sent)/m.Seconds, cpu*1e6/float64(m.Counts.Sent)
	out.Missing, out.Disorder = m.Counts.Sent-came.Arrived, came.Disorder
	for _, p := range []*process{r.entry, r.exit} {
		if p != nil {
			dropped, err := counted(p, verbDropped)
			if err != nil {
				return err
			}
			out.Dropped += dropped.Lost
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
