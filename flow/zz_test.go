package flow
import ("testing";"testing/synctest";"time";"log/slog";"os";"github.com/pannier/pannier/flow/flowtest")
func TestZZ(t *testing.T){ synctest.Test(t, func(t *testing.T) {
		near, far, _, stop := emulated(t, flowtest.LinkConfig{RTT: 100 * time.Millisecond, Rate: 256_000}, Config{Logger: slog.New(slog.NewTextHandler(os.Stdout,nil))})
		defer stop()
		time.Sleep(7 * time.Second)
		t0:=time.Now()
		go func(){ for i:=0;i<30;i++ { time.Sleep(time.Second); near.mu.Lock(); ls:=append([]*lane(nil),near.lanes...); near.mu.Unlock(); for _,l:=range ls { near.turns.mu.Lock(); t.Log(time.Since(t0), "near", l.purpose, l.pipe.written, l.pipe.acked, "silent", time.Since(time.Unix(0,l.heard.Load())), l.pinged.Load()!=0); near.turns.mu.Unlock() } } }()
		carry(t, near, far, content(700_000), Open{})
		time.Sleep(40*time.Second)
	})}
