package bench

// Usage is what a process has used since it started. PeakRSS is the high-water
// mark of its own address space (VmHWM): getrusage's maxrss would carry over
// the mark of the process that started it.
type Usage struct {
	User    float64 `json:"user_s"`         // seconds of processor time in user mode
	System  float64 `json:"system_s"`       // seconds in the kernel
	PeakRSS int64   `json:"peak_rss_bytes"` // largest resident set
	RSS     int64   `json:"rss_bytes"`      // resident set now
}

// since is what was used after before; the peak is that of the whole life, the resident set that of now.
func (u Usage) since(before Usage) Usage {
	return Usage{User: u.User - before.User, System: u.System - before.System, PeakRSS: u.PeakRSS, RSS: u.RSS}
}

// CPU is user and system together, in seconds.
func (u Usage) CPU() float64 { return u.User + u.System }
